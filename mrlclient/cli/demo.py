"""`mrlclient demo`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Annotated

import typer

from mrlclient.cli._console import console, percent, table
from mrlclient.cli._options import Debug
from mrlclient.errors import NotMatryoshkaError
from mrlclient.registry import EMBEDDED_DEFAULT

if TYPE_CHECKING:
    from mrlclient.evaluate import Collection
    from mrlclient.models import ModelSpec
    from mrlclient.result import EmbeddingResult

#: The widths to compare with the full one.
_WIDTHS = (256, 128, 64, 32)
_FLOAT32_BYTES = 4

_REFUSED = "openai:text-embedding-ada-002"


def demo(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="PROVIDER:MODEL",
            help="A Matryoshka model. A hosted one is sent, and charges, about 280,000 tokens.",
        ),
    ] = EMBEDDED_DEFAULT,
    debug: Debug = False,
) -> None:
    """Search real text, and see what each width loses.

    It takes a few seconds, and with the default model neither a key nor a network. The texts are the docstrings of
    Python's standard library: a summary has to find the rest of its docstring. They are embedded once, at the full
    width; the narrower vectors are cut from that.
    """
    from mrlclient.embedder import Embedder
    from mrlclient.evaluate import docstrings
    from mrlclient.registry import find_spec

    native = find_spec(model).native_dimensions
    widths = [native, *(width for width in _WIDTHS if width < native)]
    # Narrow widths are marked in the table instead.
    with Embedder(model, dimensions=widths, on_narrow="allow") as embedder:
        typer.echo("Reading the docstrings of Python's standard library, a second or two ...")
        texts = docstrings()
        typer.echo(
            f"{len(texts):,} summaries to search with, {len(texts.documents):,} texts to find.\n"
            f"Embedding them with {embedder.model} at {native} dimensions, once ..."
        )
        started = time.perf_counter()
        queries = embedder.embed(texts.queries, input_type="query")
        documents = embedder.embed(texts.documents, input_type="document")
        seconds = time.perf_counter() - started
    counted = [result.usage.tokens for result in (queries, documents) if result.usage.tokens is not None]
    typer.echo((f"{sum(counted):,} tokens" if counted else "Done") + f" in {seconds:.1f} s.\n")
    _show_examples(texts, queries, documents, widths)
    _show_losses(texts, queries, documents, widths)
    _show_refusal()


def _show_examples(
    texts: Collection, queries: EmbeddingResult, documents: EmbeddingResult, widths: Sequence[int]
) -> None:
    from mrlclient.evaluate._examples import examples

    picked, answered = examples(queries, documents, texts.relevant, widths)
    typer.echo(
        f"At {widths[0]} dimensions {answered:,} summaries find their own text first. Of these, the\n"
        f"middle of each third by the rank at {widths[-1]}, and what is found first at each width:\n"
    )
    for example in picked:
        typer.echo(shorten(texts.queries[example.query], 80, placeholder=" …"))
        shown = table("dimensions", "own text at rank", "found first", left=0)
        shown.columns[-1].justify = "left"
        for width in widths:
            first = shorten(texts.documents[example.first[width]], 49, placeholder=" …")
            shown.add_row(str(width), str(example.ranks[width]), first)
        console().print(shown)
        typer.echo()


def _show_losses(
    texts: Collection, queries: EmbeddingResult, documents: EmbeddingResult, widths: Sequence[int]
) -> None:
    from mrlclient.evaluate import ndcg, rank

    scores = {}
    for width in widths:
        rankings = rank(queries.at(width), documents.at(width))
        scores[width] = fmean(ndcg(dict(enumerate(rankings)), texts.qrels).values())
    typer.echo(f"All {len(texts):,} summaries:\n")
    _print_losses(queries.spec, scores)


def _print_losses(spec: ModelSpec, scores: Mapping[int, float]) -> None:
    full = scores[spec.native_dimensions]
    shown = table("dimensions", "bytes a vector", "nDCG@10", "share kept", left=0)
    narrow = False
    for width, score in scores.items():
        below = spec.smallest_evaluated is not None and width < spec.smallest_evaluated
        narrow |= below
        kept = percent(score / full) if full else "–"
        shown.add_row(f"{'* ' if below else ''}{width}", f"{width * _FLOAT32_BYTES:,}", f"{score:.3f}", kept)
    console().print(shown)
    if narrow:
        typer.echo(f"* narrower than the model's authors evaluated ({spec.smallest_evaluated}); elsewhere this warns.")
    typer.echo("What a width loses differs from text to text: measure it on your own.")


def _show_refusal() -> None:
    from mrlclient.embedder import Embedder

    typer.echo("\nA model that was not trained to be cut is refused, before anything is sent:\n")
    typer.echo(f'>>> Embedder("{_REFUSED}", dimensions=256)')
    try:
        Embedder(_REFUSED, dimensions=256)
    except NotMatryoshkaError as error:
        typer.echo(fill(f"{type(error).__name__}: {error}", 80, break_long_words=False, break_on_hyphens=False))
