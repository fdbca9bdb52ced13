"""Everything embedded once, at the full width."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mrlclient.embedder import Embedder
from mrlclient.evaluate.outcome import Pass
from mrlclient.models import InputType, ModelSpec
from mrlclient.result import Usage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """What one model makes of a data set.

    Attributes:
        spec: The model.
        documents: (m, D) float32, unit rows, at the places that they were given.
        queries: (n, D) float32, unit rows.
        embedding: What it took.
        revision: The commit of the model's files, where it is known.
    """

    spec: ModelSpec
    documents: NDArray[np.float32]
    queries: NDArray[np.float32]
    embedding: Pass
    revision: str | None


def embed_once(
    embedder: Embedder, documents: Sequence[str], places: NDArray[np.intp], queries: Sequence[str], *, progress: bool
) -> Embedded:
    """Embeds documents and queries at the full width, document i into row `places[i]`.

    Raises:
        MRLError: As `Embedder.embed_iter`.
    """
    started = time.perf_counter()
    usages: list[Usage] = []
    found = _rows(embedder, documents, places, "document", usages, progress)
    asked = _rows(embedder, queries, np.arange(len(queries)), "query", usages, progress)
    embedding = _pass(usages, time.perf_counter() - started)
    return Embedded(embedder.spec, found, asked, embedding, embedder._engine.documents.main.provider.revision)


def _rows(
    embedder: Embedder,
    texts: Sequence[str],
    places: NDArray[np.intp],
    input_type: InputType,
    usages: list[Usage],
    progress: bool,
) -> NDArray[np.float32]:
    width = embedder.spec.native_dimensions
    rows = np.empty((len(texts), width), dtype=np.float32)
    chunks: Any = embedder.embed_iter(
        texts, dimensions=width, input_type=input_type, progress=progress, dtype="float32"
    )
    # Left early, by Ctrl-C, what is under way is given up; what was answered is in the cache.
    with closing(chunks):
        for chunk in chunks:
            rows[places[chunk.start : chunk.start + len(chunk.texts)]] = chunk.embeddings
            usages.append(chunk.result.usage)
    return rows


def _pass(usages: Sequence[Usage], seconds: float) -> Pass:
    tokens, usd = ([getattr(usage, name) for usage in usages] for name in ("tokens", "usd"))
    return Pass(
        seconds=seconds,
        tokens=None if None in tokens else cast("int", sum(tokens)),
        usd=None if None in usd else float(sum(usd)),
        cached_texts=sum(usage.cached_texts for usage in usages),
        saved_usd=float(sum(usage.saved_usd for usage in usages)),
    )
