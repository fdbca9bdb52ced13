"""Other ways to make vectors narrow, and searches in two stages: lines to compare with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from mrlclient.evaluate._scoring import DEPTH, Score, Scores
from mrlclient.evaluate._searching import Searcher, timed
from mrlclient.search import Funnel
from mrlclient.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROTATIONS = 3
#: Documents on the shortlists of a funnel.
_DEPTHS = (100, 200)


def reference_scores(
    documents: NDArray[np.float32], queries: NDArray[np.float32], widths: Sequence[int], score: Score, seed: int
) -> Iterator[tuple[Literal["pca", "rotation"], int, Scores]]:
    """The scores of a PCA that is fitted on the documents, and of random rotations, at each width."""
    axes = _pca(documents)
    for width in widths:
        yield "pca", width, score(_turned(documents, queries, axes[:, :width]))
    rng = np.random.default_rng(seed)
    drawn: dict[int, list[Scores]] = {width: [] for width in widths}
    for _ in range(_ROTATIONS):
        axes = _rotation(documents.shape[1], rng)
        for width in widths:
            drawn[width].append(score(_turned(documents, queries, axes[:, :width])))
    for width, several in drawn.items():
        yield "rotation", width, {name: np.mean([scores[name] for scores in several], axis=0) for name in several[0]}


def _turned(
    documents: NDArray[np.float32], queries: NDArray[np.float32], axes: NDArray[np.float32]
) -> NDArray[np.intp]:
    """What is found by the first numbers of vectors that were turned."""
    found, asked = documents @ axes, queries @ axes
    l2_normalize(found, out=found)
    l2_normalize(asked, out=asked)
    return Searcher.of(found, asked, "float32").rank(min(DEPTH, len(documents)))


def _pca(documents: NDArray[np.float32]) -> NDArray[np.float32]:
    """(D, D) the directions in which the documents differ most from zero, first to last.

    They are not centred: all of them together are a rotation, which changes no cosine, and so is compared fairly.
    """
    _, axes = np.linalg.eigh(documents.T @ documents)
    return np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)


def _rotation(width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    axes, _ = np.linalg.qr(rng.standard_normal((width, width), dtype=np.float32))
    return np.asarray(axes)


def funnel_scores(
    documents: NDArray[np.float32], queries: NDArray[np.float32], widths: Sequence[int], score: Score
) -> Iterator[tuple[int, int, Scores, float]]:
    """Of each width and depth: the scores, and the milliseconds for a query."""
    for width in widths:
        for depth in _DEPTHS:
            if depth >= len(documents):
                continue
            funnel = Funnel(documents, shortlist_dimensions=width, depth=depth)
            found = funnel.search(queries, min(DEPTH, depth)).indices
            yield width, depth, score(found), _milliseconds(funnel, queries)


def _milliseconds(funnel: Funnel, queries: NDArray[np.float32]) -> float:
    return timed(lambda query: funnel.search(queries[query]), len(queries))
