"""Other ways to make vectors narrow, and searches in two stages: lines to compare with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from mrlclient._codes import blocks
from mrlclient.evaluate._nesting import rotate
from mrlclient.evaluate._scoring import DEPTH, Score, Scores
from mrlclient.evaluate._searching import Searcher, timed
from mrlclient.search import Funnel
from mrlclient.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROTATIONS = 3
#: Documents on the shortlists of a funnel.
_DEPTHS = (100, 200)


class FunnelScores(NamedTuple):
    """What a search in two stages gives.

    Attributes:
        dimensions: Width of the shortlist.
        depth: Documents on it.
        scores: Each (n,).
        milliseconds: For one query.
        exact_milliseconds: Of an exact search at the full width, in turns with it.
    """

    dimensions: int
    depth: int
    scores: Scores
    milliseconds: float
    exact_milliseconds: float


def reference_scores(
    documents: NDArray[np.float32], queries: NDArray[np.float32], widths: Sequence[int], score: Score, seed: int
) -> Iterator[tuple[Literal["pca", "rotation"], int, Scores]]:
    """The scores of a PCA that is fitted on the documents, and of random rotations, at each width, widest first."""
    axes = _pca(documents)[:, : widths[0]]
    for width, scores in _by_width(documents @ axes, queries @ axes, widths, score):
        yield "pca", width, scores
    drawn: dict[int, list[Scores]] = {width: [] for width in widths}
    for rotation in range(_ROTATIONS):
        of = widths[0], (seed, rotation)
        for width, scores in _by_width(_rotated(documents, *of), _rotated(queries, *of), widths, score):
            drawn[width].append(scores)
    for width, several in drawn.items():
        yield "rotation", width, {name: np.mean([scores[name] for scores in several], axis=0) for name in several[0]}


def _by_width(
    found: NDArray[np.float32], asked: NDArray[np.float32], widths: Sequence[int], score: Score
) -> Iterator[tuple[int, Scores]]:
    """What is found by the first numbers of vectors that were turned; these are changed."""
    for width in widths:
        found, asked = found[:, :width], asked[:, :width]
        for rows in (found, asked):
            l2_normalize(rows, out=rows)
        yield width, score(Searcher.of(found, asked, "float32").rank(min(DEPTH, len(found))))


def _rotated(rows: NDArray[np.float32], width: int, seed: tuple[int, int]) -> NDArray[np.float32]:
    """The first numbers of the rows after a random rotation, which is that of the seed."""
    turned = np.empty((len(rows), width), dtype=np.float32)
    for start, block in blocks(rows, rows.shape[1]):
        turned[start : start + len(block)] = rotate(block, np.random.default_rng(seed))[:, :width]
    return turned


def _pca(documents: NDArray[np.float32]) -> NDArray[np.float32]:
    """(D, D) the directions in which the documents differ most from zero, first to last.

    They are not centred: all of them together are a rotation, which changes no cosine, and so is compared fairly.
    """
    _, axes = np.linalg.eigh(documents.T @ documents)
    return np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)


def funnel_scores(
    documents: NDArray[np.float32], queries: NDArray[np.float32], widths: Sequence[int], score: Score
) -> Iterator[FunnelScores]:
    """Of each width and depth, widest first."""
    for width in widths:
        for depth in _DEPTHS:
            if depth < len(documents):
                yield _funnel_scores(documents, queries, width, depth, score)


def _funnel_scores(
    documents: NDArray[np.float32], queries: NDArray[np.float32], width: int, depth: int, score: Score
) -> FunnelScores:
    funnel = Funnel(documents, shortlist_dimensions=width, depth=depth)
    exact = Searcher.of(documents, queries, "float32")
    return FunnelScores(
        width,
        depth,
        score(funnel.search(queries, min(DEPTH, depth)).indices),
        *timed(len(queries), lambda query: funnel.search(queries[query]), exact.search),
    )
