"""`mrlclient probe`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from mrlclient.cli._console import console, percent, table
from mrlclient.cli._options import Config, Debug, Field, Model, Profile
from mrlclient.cli._output import check_apart, opened
from mrlclient.cli._texts import read_texts
from mrlclient.cli._widths import widths_in
from mrlclient.errors import ConfigurationError, InputError
from mrlclient.models import InputType

if TYPE_CHECKING:
    from mrlclient.embedder import Embedder
    from mrlclient.evaluate import ProbeResult, ServerProbe


def probe(
    model: Model = None,
    profile: Profile = None,
    config: Config = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="Your texts, better 1,000 than 100: .txt has one a line, .jsonl one object a line; - is standard "
            "input. By default 1,000 docstrings of Python and their summaries, about 120,000 tokens.",
        ),
    ] = None,
    field: Field = None,
    input_type: Annotated[
        InputType | None, typer.Option("--input-type", help="The role of your texts in a search.")
    ] = None,
    dimensions: Annotated[
        str | None,
        typer.Option(
            "--dimensions",
            "-d",
            metavar="N[,N...]",
            help="The widths to look at. By default the five widest powers of two below the full width. "
            "With --server one width, by default half the full one.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="What is drawn at random: the same seed, the same.")] = 0,
    server: Annotated[
        bool,
        typer.Option("--server", help="Ask the server instead, with three small requests, what it does with a width."),
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FILE",
            help="On a positive verdict, declare the model in this configuration, with the evidence.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Find out whether a model is Matryoshka, or what a server does with a width.

    The texts are embedded once, at the full width. The first numbers of the vectors are compared with as many random
    ones, and with those of rotated vectors, by how many of a text's 10 nearest neighbours they keep.
    """
    widths = widths_in(dimensions)
    if model is not None and (config is not None or profile is not None):
        raise ConfigurationError("--model and a configuration exclude each other. Give the one or the other.")
    if server:
        _check_server_alone(file, write, widths)
    elif file is None and (field is not None or input_type is not None):
        raise ConfigurationError("--field and --input-type are about your texts. Give them with --file.")
    check_apart(file, write)
    given = None if file is None else read_texts((), file, field)
    texts = None if given is None else [*given]

    from mrlclient.embedder import Embedder

    from_config = config is not None or profile is not None
    with Embedder.from_config(config, profile) if from_config else Embedder(model) as embedder:
        if server:
            _probe_server(embedder, widths[0] if widths else None, as_json)
            return
        if write is not None:
            from mrlclient.config.declaring import check_place

            check_place(write, embedder.model)
        if not as_json:
            what = "1,000 docstrings and their summaries" if texts is None else f"{len(texts):,} texts"
            typer.echo(f"Embedding {what} at full width, once, with\n{embedder.model} ...")
        from mrlclient.evaluate import probe

        try:
            result = probe(embedder, texts, widths, input_type=input_type, seed=seed)
        except InputError as error:
            raise error if given is None else given.placed(error) from None
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        _show(result)
    if write is not None:
        _write(result, write, quiet=as_json)


def _check_server_alone(file: Path | None, write: Path | None, widths: Sequence[int] | None) -> None:
    if file is not None or write is not None:
        raise ConfigurationError(
            "--server sends its own sentences, and declares nothing. Leave --file and --write out."
        )
    if widths is not None and len(widths) > 1:
        raise ConfigurationError("--server asks for one width. Give one with --dimensions.")


def _show(result: ProbeResult) -> None:
    has_ndcg = any(each.ndcg is not None for each in result.statistics)
    heads = ["dimensions", "prefix\nkeeps", "random\nnumbers", "after a\nrotation", "z", "nested"]
    shown = table(*heads, *(["nDCG@10", "of random\nnumbers"] if has_ndcg else []), left=0)
    for each in result.statistics:
        cells = [
            str(each.dimensions),
            percent(each.prefix),
            f"{percent(each.random)} ± {percent(each.random_sd)}",
            f"{percent(each.rotated)} ± {percent(each.rotated_sd)}",
            f"{min(each.z_random, each.z_rotated):z.1f}",
            "yes" if each.nested else "–",
        ]
        if each.ndcg is not None and each.ndcg_random is not None:
            cells += [f"{each.ndcg:.3f}", f"{each.ndcg_random:.3f}"]
        shown.add_row(*cells)
    typer.echo("\nOf a text's 10 nearest neighbours at the full width, so many are kept:\n")
    console().print(shown)
    left_out = f", {result.duplicates:,} duplicates left out" if result.duplicates else ""
    typer.echo(f"\n{result.texts:,} texts{left_out}; {result.draws} draws, {result.rotations} rotations.")
    if result.order is not None:
        typer.echo(
            f"Variance against place, within octaves: z {result.order.trend:+z.1f} (-2 or less: sorted by it).\n"
            f"Correlation of the numbers, against a rotation's: {result.order.correlation:z.2f} (near 0: as in PCA)."
        )
    typer.echo(f"\nVerdict: {result.verdict}")
    typer.echo(fill(result.reason, 80))


def _write(result: ProbeResult, path: Path, *, quiet: bool) -> None:
    from mrlclient.config.declaring import with_declaration

    spec = result.spec()
    text = with_declaration(path, spec)
    with opened(path) as stream:
        stream.write(text)
    if not quiet:
        typer.echo(
            f"\n{path} declares {spec.address} to be Matryoshka now.\nWidths below {spec.smallest_evaluated} will warn."
        )


def _probe_server(embedder: Embedder, dimensions: int | None, as_json: bool) -> None:
    from mrlclient.evaluate import probe_server
    from mrlclient.evaluate.server import REQUESTS, SENTENCES, provider_of, reduced_width

    origin, width = provider_of(embedder).origin, reduced_width(embedder.spec, dimensions)
    if not as_json:
        price = embedder.spec.usd_per_million_tokens
        cost = "" if price is None else f", about {price * 150 / 1e6:.6f} USD"
        typer.echo(
            f"Asking {origin} for\n{embedder.model}:\n"
            f"{REQUESTS} requests of {len(SENTENCES)} sentences, about 150 tokens in all{cost} ...\n"
        )
    found = probe_server(embedder, width)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _show_server(found)


def _show_server(found: ServerProbe) -> None:
    shown = table("", "")
    shown.show_header = False
    for name, value in (
        ("width asked for", str(found.dimensions)),
        ("width received", "none: it refused" if found.received is None else str(found.received)),
        ("length received", "–" if found.length is None else f"{found.length:.4f}"),
        ("distance from slice + L2", "–" if found.distance is None else f"{found.distance:.1e}"),
        ("distance of two full answers", f"{found.noise:.1e}"),
    ):
        shown.add_row(name, value)
    console().print(shown)
    typer.echo(f"\nThe server: {found.behaviour}\n{fill(found.advice, 80)}")
