"""Search in two stages: a shortlist by the first numbers of the vectors, reranked by all of them.

A Matryoshka vector's prefix is an embedding, so a fraction of the work finds candidates, and the full width then ranks
them (Kusupati et al. 2022, arXiv 2205.13147, "funnel retrieval").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from mrlclient._unit_rows import BLOCK, check_unit, cut_unit_rows, floats, positive
from mrlclient._usearch import check_index, look_up
from mrlclient.dimensions import check_width
from mrlclient.errors import ConfigurationError, IncompatibleSpaceError
from mrlclient.models import Recipe
from mrlclient.quantize import Quantized, quantize, scores
from mrlclient.result import EmbeddingResult, check_narrow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from usearch.index import Index

__all__ = ["Funnel", "Hits", "funnel", "top_k"]

#: Scores that stand in memory at a time, perhaps twice, unless those of a single query are more.
_SCORES = 1 << 23
#: Scores of which only the best is looked at first.
_GROUP = 16


class Hits(NamedTuple):
    """What a search found; `indices, scores = hits` works.

    Attributes:
        indices: (q, k) intp, the rows of the matrix for each query, best first; among equal scores, the lower index
            first.
        scores: (q, k) float32, their dot products with the query at the full width: cosines, as all have unit length.
    """

    indices: NDArray[np.intp]
    scores: NDArray[np.float32]


class Funnel:
    """Searches a matrix in two stages, as often as you like.

    It keeps the matrix without a copy, and besides it a copy of the rows' first numbers, scaled to unit length: n *
    `shortlist_dimensions` * 4 bytes, 26 MB for 100,000 rows at 64. The matrix must not change afterwards. Making a
    funnel reads and checks the whole matrix once. Threads may share it.

    Args:
        matrix: (n, D) float32 or float16, unit rows, in any memory layout; a `numpy.memmap` is read as needed. Or a
            result of `Embedder.embed`, which also knows its space and whether its model may be truncated.
        shortlist_dimensions: The width of the first stage, 1 to D; by default that of `quantized`, or 64.
        depth: Rows on the shortlist of each query. If the matrix has no more, all are scored at the full width.
        recipe: How the model's vectors are truncated, as in `ModelSpec.recipe`. Use the default for vectors of an
            `Embedder`, which are already centred if the model needs it. Use `"center_slice_l2"` if matrix and queries
            are the full vectors of such a model from another server or library; the scores are still those of the
            vectors as they are.
        index: A usearch index of the rows' prefixes, each under the number of its row, to make the shortlist with. No
            prefixes are then kept here, and rows are read and checked only when they are on a shortlist.
        quantized: The rows in fewer bytes, to make the shortlist with, at their full width or truncated: from
            `mrlclient.quantize`, or `result.quantized`. As with an index, rows are read only when they are on a
            shortlist. If the rows are binary, queries are quantised too. A server's int8 and uint8 cannot be used.

    Raises:
        ConfigurationError: If an argument cannot be used; the message says which row or width, and what to do.
        NotMatryoshkaError: If the matrix is a result whose model must not be truncated.
        DimensionsOutOfRangeError: If it is a result with `on_narrow="error"`, and `shortlist_dimensions` is below what
            the model's authors evaluated.
    """

    def __init__(
        self,
        matrix: NDArray[np.floating[Any]] | EmbeddingResult,
        *,
        shortlist_dimensions: int | None = None,
        depth: int = 200,
        recipe: Recipe = "slice_l2",
        index: Index | None = None,
        quantized: Quantized | None = None,
    ) -> None:
        self._space = matrix.space if isinstance(matrix, EmbeddingResult) else None
        self._matrix = floats(matrix, "matrix")
        if self._matrix.ndim != 2:
            raise ConfigurationError(f"matrix has the shape {self._matrix.shape}. It must be (n, D): a row for each.")
        self.dimensions = self._matrix.shape[1]
        if shortlist_dimensions is None:
            shortlist_dimensions = 64 if quantized is None else quantized.dimensions
        self.shortlist_dimensions = positive(shortlist_dimensions, "shortlist_dimensions")
        if self.shortlist_dimensions > self.dimensions:
            raise ConfigurationError(
                f"shortlist_dimensions={shortlist_dimensions} is wider than the matrix. Take 1 to {self.dimensions}."
            )
        self.depth = positive(depth, "depth")
        if recipe not in get_args(Recipe):
            raise ConfigurationError(f"recipe must be one of {', '.join(get_args(Recipe))}, not {recipe!r}.")
        self._center = recipe == "center_slice_l2"
        if self._center and self._space is not None:
            raise ConfigurationError("The rows of an EmbeddingResult are centered where they have to be. Omit recipe.")
        self._index, self._quantized = index, quantized
        self._prefixes: NDArray[np.float32] | None = None
        if isinstance(matrix, EmbeddingResult):
            check_width(matrix.spec, self.shortlist_dimensions)
            check_narrow(matrix.spec, self.shortlist_dimensions, matrix.on_narrow)
        if quantized is not None:
            self._check_quantized(quantized)
        elif index is None:
            self._prefixes = self._cut(self._matrix, "matrix")
        else:
            check_index(index, self._matrix, self.shortlist_dimensions, center=self._center)

    def search(self, queries: NDArray[np.floating[Any]] | EmbeddingResult, k: int = 10) -> Hits:
        """Finds the best rows for each query.

        Memory besides the result: 64 MB for scores, or 4 bytes per row if that is more.

        Args:
            queries: (q, D) float32 or float16, unit rows, of the matrix's space and full width; or a result of
                `Embedder.embed`. A single query (D,) counts as (1, D).
            k: Rows to find for each, at most `depth`.

        Returns:
            (q, k) indices and scores; (q, n) where the matrix has n < k rows.

        Raises:
            ConfigurationError: If queries or `k` do not fit, or the index does not belong to the matrix.
            IncompatibleSpaceError: If matrix and queries are results of two spaces.
        """
        if isinstance(queries, EmbeddingResult) and self._space not in (None, queries.space):
            raise IncompatibleSpaceError(f"Queries of {queries.space} cannot search documents of {self._space}.")
        if positive(k, "k") > self.depth:
            raise ConfigurationError(f"k={k} is more than depth={self.depth}: the shortlist must hold what is found.")
        asked = floats(queries, "queries")
        if asked.ndim not in (1, 2) or asked.shape[-1] != self.dimensions:
            raise ConfigurationError(
                f"queries have the shape {asked.shape}, and the matrix is {self.dimensions} wide: take "
                f"({self.dimensions},) or (q, {self.dimensions}). They are cut here, and scored at the full width."
            )
        asked = np.atleast_2d(asked).astype(np.float32, copy=False)
        k = min(k, len(self))
        hits = Hits(np.empty((len(asked), k), dtype=np.intp), np.empty((len(asked), k), dtype=np.float32))
        for row, near in enumerate(self._shortlists(asked)):
            scored = self._scores(asked[row], near)
            best = np.argsort(-scored, kind="stable")[:k]
            hits.indices[row], hits.scores[row] = near[best], scored[best]
        return hits

    def __len__(self) -> int:
        return len(self._matrix)

    def __repr__(self) -> str:
        return (
            f"Funnel({len(self)} × {self.dimensions}, shortlist_dimensions={self.shortlist_dimensions}, "
            f"depth={self.depth}{'' if self._index is None else ', over an index'}"
            f"{'' if self._quantized is None else f', quantized={self._quantized.dtype}'})"
        )

    def _check_quantized(self, quantized: Quantized) -> None:
        """Refuses codes that are not of the matrix's rows."""
        if self._index is not None:
            raise ConfigurationError("index and quantized both draw up the shortlist. Give one of them.")
        quantized.check_known()
        if (len(quantized), quantized.dimensions) != (len(self), self.shortlist_dimensions):
            raise ConfigurationError(
                f"quantized has {len(quantized)} rows of {quantized.dimensions} dimensions, where the matrix has "
                f"{len(self)} and shortlist_dimensions={self.shortlist_dimensions}. Quantize the matrix's own rows."
            )

    def _cut(self, vectors: NDArray[Any], what: str) -> NDArray[np.float32]:
        return cut_unit_rows(vectors, self.shortlist_dimensions, what, center=self._center)

    def _shortlists(self, queries: NDArray[np.float32]) -> Iterator[NDArray[np.intp]]:
        """For each query the rows that may be best, ascending."""
        prefixes = self._cut(queries, "queries")
        if len(self) <= self.depth:
            yield from [np.arange(len(self))] * len(queries)
        elif self._index is not None:
            yield from (look_up(self._index, prefix, self.depth) for prefix in prefixes)
        else:
            step = max(_SCORES // len(self), 1)
            for start in range(0, len(queries), step):
                yield from np.sort(top_k(self._coarse(prefixes[start : start + step]), self.depth), axis=1)

    def _coarse(self, prefixes: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores of all rows by which those on the shortlist are found."""
        if self._quantized is None:
            assert self._prefixes is not None, "there is nothing else to draw up a shortlist with"
            return np.asarray(prefixes @ self._prefixes.T)
        if self._quantized.dtype in ("binary", "ubinary"):
            return scores(quantize(prefixes, "ubinary"), self._quantized)
        return scores(prefixes, self._quantized)

    def _scores(self, query: NDArray[np.float32], near: NDArray[np.intp]) -> NDArray[np.float32]:
        """The dot products of some rows with a query. Equal rows have equal ones, which a matrix product may break."""
        scored = np.empty(len(near), dtype=np.float32)
        step = max(BLOCK // self.dimensions, 1)
        for start in range(0, len(near), step):
            rows = self._matrix[near[start : start + step]].astype(np.float32, copy=False)
            if self._prefixes is None:
                check_unit(rows, "matrix", near[start : start + step])
            np.vecdot(rows, query, out=scored[start : start + step])
        return scored


def funnel(
    query: NDArray[np.floating[Any]] | EmbeddingResult,
    matrix: NDArray[np.floating[Any]] | EmbeddingResult,
    *,
    shortlist_dimensions: int = 64,
    depth: int = 200,
    k: int = 10,
    recipe: Recipe = "slice_l2",
) -> Hits:
    """Searches a matrix once, for one query or several: `Funnel(matrix, ...).search(query, k)`.

    It truncates the whole matrix first, which takes longer than an exact search for one query. For several searches,
    make a `Funnel`.

    Args:
        query: As the queries of `Funnel.search`.
        matrix: As in `Funnel`.
        shortlist_dimensions: As in `Funnel`.
        depth: As in `Funnel`.
        k: As in `Funnel.search`.
        recipe: As in `Funnel`.

    Returns:
        As `Funnel.search`.

    Raises:
        MRLError: As `Funnel` and `Funnel.search`.
    """
    made = Funnel(matrix, shortlist_dimensions=shortlist_dimensions, depth=depth, recipe=recipe)
    return made.search(query, k)


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """The indices of the k highest scores in each row, highest first; among equal scores, the lower index first.

    Args:
        scores: (q, n) float32, no NaN.
        k: 1 to n.

    Returns:
        (q, k) intp.
    """
    ranked = np.empty((len(scores), k), dtype=np.intp)
    for row, (of_query, bound) in enumerate(zip(scores, _bounds(scores, k), strict=True)):
        # All that score as high: a partition alone would pick any of those that tie with the kth.
        near = np.flatnonzero(of_query >= bound)
        ranked[row] = near[np.argsort(-of_query[near], kind="stable")[:k]]
    return ranked


def _bounds(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """For each row a number that at least k of its scores reach, and few others."""
    groups = scores.shape[1] // _GROUP
    if groups >= 4 * k:
        # The kth best of the groups' best is as high or lower, and there are fewer of them to partition.
        scores = scores[:, : groups * _GROUP].reshape(len(scores), _GROUP, groups).max(axis=1)
    bounds: NDArray[np.float32] = np.partition(scores, -k, axis=1)[:, -k]
    return bounds
