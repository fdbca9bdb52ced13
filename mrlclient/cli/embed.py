"""`mrlclient embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mrlclient.cli._options import Config, Debug, Field, Model, Profile
from mrlclient.cli._output import Format, check_apart, choose_format, opened, write
from mrlclient.cli._texts import read_texts
from mrlclient.cli._widths import widths_in
from mrlclient.dimensions import OnNarrow
from mrlclient.errors import ConfigurationError, InputError
from mrlclient.models import InputType, Task


def _check_only_the_profile_says(**options: object) -> None:
    for name, value in options.items():
        if value not in (None, False):
            option = name.replace("_", "-")
            raise ConfigurationError(
                f"--{option} stands in the profile. Leave it out, or leave out --profile and --config."
            )


def embed(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to embed; put -- before one that begins with a dash. "
            "Without any, and without --file: one text a line from standard input."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="Texts from a file: .txt has one a line, .jsonl one object a line; - is standard input. UTF-8.",
        ),
    ] = None,
    field: Field = None,
    model: Model = None,
    dimensions: Annotated[
        str | None,
        typer.Option(
            "--dimensions",
            "-d",
            metavar="N[,N...]",
            help="Numbers in a vector, or several widths with commas between; one request serves them all. "
            "By default the model's full width.",
        ),
    ] = None,
    input_type: Annotated[
        InputType | None,
        typer.Option("--input-type", help="The texts' role in a search. By default what the model assumes."),
    ] = None,
    task: Annotated[
        Task | None, typer.Option("--task", help="Instead of a role, a task, where the model knows it.")
    ] = None,
    on_narrow: Annotated[
        OnNarrow | None,
        typer.Option("--on-narrow", help="About a width narrower than the model's authors evaluated. By default warn."),
    ] = None,
    truncate_input: Annotated[
        bool, typer.Option("--truncate-input", help="Embed the beginning of an over-long text, where the provider can.")
    ] = False,
    cache: Annotated[
        str | None,
        typer.Option(
            "--cache",
            metavar="ADDRESS",
            help="Where vectors are kept, so that a text is paid for once: a path, sqlite:PATH or redis://HOST. "
            "See 'mrlclient cache'. By default nothing is kept.",
        ),
    ] = None,
    fetch: Annotated[
        Literal["requested", "native"] | None,
        typer.Option(
            "--fetch",
            help="With native the full width is asked for, so that the cache has every width. By default requested.",
        ),
    ] = None,
    profile: Profile = None,
    config: Config = None,
    output_format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="table is a preview; json and jsonl give every width; npy is one float32 matrix, one row a text. "
            "By default what the ending of --output says; without --output, table.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write to this file, whole or not at all. By default, and with -, standard output.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Embed texts at one width or several.

    Every vector has unit length, and they come in the order of the texts. Warnings and errors go to standard error.
    """
    widths = widths_in(dimensions)
    if output == Path("-"):
        output = None
    chosen = choose_format(output_format, output, widths or ())
    check_apart(file, output)
    given = read_texts(texts or (), file, field)

    from mrlclient.embedder import Embedder

    if profile is None and config is None:
        asked = None
        embedder = Embedder(
            model,
            dimensions=widths,
            on_narrow=on_narrow or "warn",
            truncate_input=truncate_input,
            cache=cache,
            fetch=fetch or "requested",
        )
    else:
        _check_only_the_profile_says(
            model=model, on_narrow=on_narrow, cache=cache, fetch=fetch, truncate_input=truncate_input
        )
        embedder, asked = Embedder.from_config(config, profile), widths
        chosen = choose_format(output_format, output, widths or embedder.widths)
    # The output comes before the request: a path that cannot be written to is told before anything is paid for.
    with embedder, opened(output) as stream:
        try:
            result = embedder.embed(given.texts, dimensions=asked, input_type=input_type, task=task, dtype="float32")
        except InputError as error:
            raise given.placed(error) from None
        write(result, widths or embedder.widths, chosen, stream)
