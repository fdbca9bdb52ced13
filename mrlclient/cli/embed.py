"""`mrlclient embed`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mrlclient.cli._formats import Format
from mrlclient.cli._options import Config, Debug, Field, Model, Profile
from mrlclient.cli._output import check_apart, choose_format, is_special, opened
from mrlclient.cli._run import Run, Wanted
from mrlclient.cli._texts import read_texts
from mrlclient.cli._widths import widths_in
from mrlclient.dimensions import OnNarrow
from mrlclient.errors import ConfigurationError
from mrlclient.models import InputType, Task


def _check_only_the_profile_says(**options: object) -> None:
    for name, value in options.items():
        if value not in (None, False):
            option = name.replace("_", "-")
            raise ConfigurationError(
                f"--{option} stands in the profile. Leave it out, or leave out --profile and --config."
            )


def embed(
    ctx: typer.Context,
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
    skip: Annotated[
        int, typer.Option("--skip", metavar="N", min=0, help="Leave out the first N texts; rows count on from there.")
    ] = 0,
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
            help="Write to this file, which is there when it is whole. By default, and with -, standard output.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Embed texts at one width or several.

    Every vector has unit length, and they come in the order of the texts. Warnings and errors go to standard error.
    jsonl and npy are written as the vectors come, in constant memory. Where such a run ends early, --output FILE is not
    there yet: what was got is in FILE.part, and the same command goes on from there.
    """
    widths = widths_in(dimensions)
    if output == Path("-"):
        output = None
    chosen = choose_format(output_format, output, widths or ())
    check_apart(file, output)
    is_file = output is not None and not is_special(output)
    # In a pipe the head of an npy, which has the number of rows, cannot be put right when they are written.
    given = read_texts(texts or (), file, field, counted=chosen == "npy" and not is_file)

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
    run = Run(
        embedder,
        given,
        skip,
        Wanted(dimensions=asked, input_type=input_type, task=task),
        chosen,
        widths or embedder.widths,
        watched=_is_watched(output),
        session=ctx.obj,
    )
    # The output comes before the request: a path that cannot be written to is told before anything is paid for.
    with embedder:
        if output is not None and is_file and chosen in ("jsonl", "npy"):
            run.into_file(output)
        else:
            with opened(output) as stream:
                run.into_stream(stream)


def _is_watched(output: Path | None) -> bool:
    """Whether a bar on stderr is seen, and disturbs nothing."""
    return sys.stderr is not None and sys.stderr.isatty() and not (output is None and sys.stdout.isatty())
