"""Exact searches at one width in one type, and how long they take."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from mrlclient._codes import PACKED
from mrlclient.errors import ClippingWarning
from mrlclient.quantize import DType, Quantized, calibrate, dequantize, quantize, scores
from mrlclient.search import top_k
from mrlclient.vectors import truncate_dimensions

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Scores, or floats of stored numbers, that are made at a time, as a share of the numbers of all documents. In small
#: blocks most of the time would go into waiting for the threads of a matrix product.
_SHARE = 0.125
_MIN_BLOCK = 1 << 18
#: A latency is the median of so many queries, or of those that fit into the seconds.
_TIMED, _TIMED_SECONDS = 15, 0.15
#: Documents that a timed search finds.
_TIMED_K = 10


@dataclass(frozen=True, slots=True, eq=False)
class Searcher:
    """Documents and queries of one width, and both once more in the type that an index would hold.

    Attributes:
        documents: (m, d) float32, unit rows.
        queries: (n, d) float32, unit rows.
        stored: The documents in their type.
        asked: The queries in the same type, as such an index takes them.
        block: Numbers made at a time.
    """

    documents: NDArray[np.float32]
    queries: NDArray[np.float32]
    stored: Quantized
    asked: Quantized
    block: int

    @classmethod
    def of(
        cls, documents: NDArray[np.float32], queries: NDArray[np.float32], dtype: DType, full: int | None = None
    ) -> Searcher:
        """Both in this type; int8 is calibrated on the documents.

        Args:
            documents: See above.
            queries: See above.
            dtype: The type.
            full: The full width, of which a part may be held beside; by default that of the documents.
        """
        ranges = calibrate(documents) if dtype == "int8" else None
        with warnings.catch_warnings():
            # What is clipped is clipped in use as well, and its loss is among what is measured.
            warnings.simplefilter("ignore", ClippingWarning)
            stored, asked = quantize(documents, dtype, ranges), quantize(queries, dtype, ranges)
        block = max(int(len(documents) * (full or documents.shape[1]) * _SHARE), _MIN_BLOCK)
        return cls(documents, queries, stored, asked, block)

    def rank(self, k: int) -> NDArray[np.intp]:
        """(n, k) places of documents, best first; of equal scores the lower place first."""
        ranked = np.empty((len(self.queries), k), dtype=np.intp)
        step = max(self.block // len(self.documents), 1)
        for start in range(0, len(ranked), step):
            ranked[start : start + step] = self._rank(start, start + step, k)
        return ranked

    def rescore(self, ranked: NDArray[np.intp], depth: int) -> NDArray[np.intp]:
        """The rankings with their first `depth` put in order by float32."""
        rescored = ranked.copy()
        for query in range(len(ranked)):
            rescored[query, :depth] = self._rescore(query, ranked[query, :depth])
        return rescored

    def search(self, query: int, depth: int = 0) -> None:
        """Finds the best for one query, with `depth` documents rescored: to be timed."""
        (ranked,) = self._rank(query, query + 1, min(max(_TIMED_K, depth), len(self.documents)))
        if depth:
            self._rescore(query, ranked)

    def _rank(self, start: int, stop: int, k: int) -> NDArray[np.intp]:
        if self.stored.dtype == "float32":
            return top_k(self.queries[start:stop] @ self.documents.T, k)
        asked = replace(self.asked, codes=self.asked.codes[start:stop])
        if self.stored.dtype in PACKED or len(asked) == 1:
            return top_k(scores(asked, self.stored), k)
        # A block of documents is made floats once for all these queries.
        floats = dequantize(asked)
        found = np.empty((len(floats), len(self.stored)), dtype=np.float32)
        step = max(self.block // self.stored.dimensions, 1)
        for first in range(0, len(self.stored), step):
            rows = replace(self.stored, codes=self.stored.codes[first : first + step])
            np.matmul(floats, dequantize(rows).T, out=found[:, first : first + step])
        return top_k(found, k)

    def _rescore(self, query: int, ranked: NDArray[np.intp]) -> NDArray[np.intp]:
        near = np.sort(ranked)
        exact = np.vecdot(self.documents[near], self.queries[query])
        return near[np.argsort(-exact, kind="stable")]


def cut(rows: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """The first numbers of unit rows, as unit rows; all of them are the rows themselves."""
    return rows if width == rows.shape[1] else truncate_dimensions(rows, width)


def timed(queries: int, *searches: Callable[[int], object]) -> tuple[float, ...]:
    """Milliseconds that each search for one query takes, the median of several; they take turns, to be compared."""
    taken: list[list[float]] = [[] for _ in searches]
    begun = time.perf_counter()
    for query in range(min(queries, _TIMED)):
        for search, of_search in zip(searches, taken, strict=True):
            started = time.perf_counter()
            search(query)
            of_search.append((time.perf_counter() - started) * 1000)
        if time.perf_counter() - begun > _TIMED_SECONDS:
            break
    return tuple(median(each) for each in taken)
