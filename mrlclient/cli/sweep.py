"""`mrlclient sweep`."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mrlclient.cli._options import Debug
from mrlclient.cli._output import opened
from mrlclient.cli._widths import widths_in
from mrlclient.errors import ConfigurationError, missing_extra

if TYPE_CHECKING:
    from collections.abc import Callable

    from mrlclient.evaluate import Outcome, SearchData
    from mrlclient.quantize import DType


def sweep(
    documents: Annotated[
        Path | None,
        typer.Argument(
            help="A folder with corpus.jsonl, queries.jsonl and qrels/test.tsv, as BEIR has them; or a file of "
            "documents: .jsonl, .csv, .tsv or .parquet. By default the docstrings of Python's standard library."
        ),
    ] = None,
    queries: Annotated[
        Path | None, typer.Option("--queries", metavar="FILE", help="The queries, a record for each.")
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(
            "--qrels",
            metavar="FILE",
            help="Which documents answer which query: columns query-id, corpus-id, score. Without it only the "
            "agreement with the full width is measured.",
        ),
    ] = None,
    id_field: Annotated[str, typer.Option("--id-field", help="The field that names a document or a query.")] = "_id",
    text_field: Annotated[str, typer.Option("--text-field", help="The field that has its text.")] = "text",
    title_field: Annotated[str, typer.Option("--title-field", help="The field that has a document's title.")] = "title",
    split: Annotated[str, typer.Option("--split", help="Which of a folder's qrels to take.")] = "test",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="PROVIDER:MODEL",
            help="The model; several times to compare. By default MRLCLIENT_MODEL, else the embedded one.",
        ),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", "-p", metavar="NAME", help="A profile of the configuration; several times likewise."),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            "--widths",
            "-w",
            metavar="N[,N...]",
            help="Widths to measure beside the full one. By default three quarters, a half, a quarter, down to 32.",
        ),
    ] = None,
    dtypes: Annotated[
        str | None,
        typer.Option(
            "--dtypes",
            metavar="TYPE[,TYPE...]",
            help="Types to measure beside float32. By default float16, int8 and binary.",
        ),
    ] = None,
    rescore: Annotated[
        bool,
        typer.Option(
            "--rescore/--no-rescore", help="Also measure int8 and binary with their best put in order by float32."
        ),
    ] = True,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", "-t", help="The loss that is still good enough: 0.02 is from 0.50 to 0.48."),
    ] = 0.02,
    confidence: Annotated[
        float, typer.Option("--confidence", help="That the recommended size loses no more than that.")
    ] = 0.95,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", metavar="FIELD", help="A field of the queries: what each group of them loses."),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            "--cache",
            metavar="ADDRESS",
            help="Where vectors are kept, so that an interrupted sweep goes on and the next costs nothing. By default "
            "mrlclient/sweep.sqlite in the user's cache folder.",
        ),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the outcome to this file, without texts.")
    ] = None,
    html_file: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a report to this file, with the queries that lose most."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Find the smallest size of the vectors that is good enough, on your own texts.

    Everything is embedded once, at the full width; the other sizes are made of that. The exit status is 0 where a size
    is recommended, the full one or a smaller, and 3 where there is not enough evidence.
    """
    from mrlclient.cli._sweep_tables import show
    from mrlclient.evaluate import sweep as measure

    chosen_widths = widths_in(widths, "--widths")
    chosen_types = cast("list[DType] | None", None if dtypes is None else [each.strip() for each in dtypes.split(",")])
    # What is missing is told before anything is paid for.
    html = _report() if html_file is not None else None
    if json_file is not None and html_file is not None and os.path.realpath(json_file) == os.path.realpath(html_file):
        raise ConfigurationError("--json and --html name the same file. Name two.")
    data = _data(documents, queries, qrels, id_field, text_field, title_field, split)
    with ExitStack() as stack:
        embedders = [
            stack.enter_context(each) for each in _embedders(model or [], profile or [], _cache(cache, no_cache))
        ]
        files = {file: stack.enter_context(opened(file)) for file in (json_file, html_file) if file is not None}
        watched = sys.stderr is not None and sys.stderr.isatty()
        if watched:
            models = " and ".join(each.model for each in embedders)
            counted = f"{len(data.documents):,} documents and {len(data.queries):,} queries"
            print(f"{counted}, to be embedded once with {models}.", file=sys.stderr)
        outcome = measure(
            embedders,
            data,
            widths=chosen_widths,
            dtypes=chosen_types,
            rescore=rescore,
            tolerance=tolerance,
            confidence=confidence,
            group_by=group_by,
            progress=watched,
        )
        if json_file is not None:
            json.dump(outcome.to_dict(), files[json_file], indent=1, ensure_ascii=False)
            files[json_file].write("\n")
        if html is not None and html_file is not None:
            files[html_file].write(html(outcome))
    show(outcome)
    if any(each.recommendation.kind == "not enough evidence" for each in outcome.models):
        raise typer.Exit(3)


def _data(
    documents: Path | None,
    queries: Path | None,
    qrels: Path | None,
    id_field: str,
    text_field: str,
    title_field: str,
    split: str,
) -> SearchData:
    from mrlclient.evaluate import SearchData, docstrings, load

    if documents is not None:
        return load(
            documents, queries, qrels, id_field=id_field, text_field=text_field, title_field=title_field, split=split
        )
    if queries is not None or qrels is not None:
        raise ConfigurationError("There are --queries or --qrels and no documents. Name their file before the options.")
    return SearchData.of(docstrings())


def _embedders(models: list[str], profiles: list[str], cache: str | None) -> list[Any]:
    from mrlclient.config import arguments_of_file
    from mrlclient.embedder import Embedder

    wanted: list[str | None] = [*models] if models or profiles else [None]
    made = [Embedder(address, cache=cache) for address in wanted]
    for profile in profiles:
        arguments = arguments_of_file(None, profile)
        # A profile's own cache has what was paid for already.
        made.append(Embedder(**{"cache": cache, **arguments}))
    return made


def _cache(address: str | None, no_cache: bool) -> str | None:
    """Where vectors are kept."""
    if no_cache and address is not None:
        raise ConfigurationError("--cache and --no-cache exclude each other. Give one of them.")
    if no_cache or address is not None:
        return address
    if find_spec("apsw") is None or find_spec("xxhash") is None:
        raise ConfigurationError(
            "A sweep keeps its vectors in a file, so that it can go on where it was interrupted: pip install "
            "'mrlclient[sqlite]', or give --no-cache."
        )
    home = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored: XDG Base Directory Specification.
    folder = (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "mrlclient"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / "sweep.sqlite")


def _report() -> Callable[[Outcome], str]:
    if find_spec("jinja2") is None:
        raise missing_extra("jinja2, which makes the page,", "report")
    from mrlclient.evaluate.report import html

    return html
