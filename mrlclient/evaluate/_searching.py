"""Exact searches at one width in one type, and how long they take."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.errors import ClippingWarning
from mrlclient.quantize import DType, Quantized, calibrate, quantize, scores
from mrlclient.search import top_k

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Queries scored at a time, for each dimension: their scores take a quarter of what the documents take in float32.
_QUERIES_PER_DIMENSION = 0.25
_MIN_BLOCK = 16
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
    """

    documents: NDArray[np.float32]
    queries: NDArray[np.float32]
    stored: Quantized
    asked: Quantized

    @classmethod
    def of(cls, documents: NDArray[np.float32], queries: NDArray[np.float32], dtype: DType) -> Searcher:
        """Both in this type; int8 is calibrated on the documents."""
        ranges = calibrate(documents) if dtype == "int8" else None
        with warnings.catch_warnings():
            # What is clipped is clipped in use as well, and its loss is among what is measured.
            warnings.simplefilter("ignore", ClippingWarning)
            stored, asked = quantize(documents, dtype, ranges), quantize(queries, dtype, ranges)
        return cls(documents, queries, stored, asked)

    def rank(self, k: int) -> NDArray[np.intp]:
        """(n, k) places of documents, best first; of equal scores the lower place first."""
        ranked = np.empty((len(self.queries), k), dtype=np.intp)
        step = max(int(self.stored.dimensions * _QUERIES_PER_DIMENSION), _MIN_BLOCK)
        for start in range(0, len(ranked), step):
            ranked[start : start + step] = self._rank(start, start + step, k)
        return ranked

    def rescore(self, ranked: NDArray[np.intp], depth: int) -> NDArray[np.intp]:
        """The rankings with their first `depth` put in order by float32."""
        rescored = ranked.copy()
        for query in range(len(ranked)):
            rescored[query, :depth] = self._rescore(query, ranked[query, :depth])
        return rescored

    def milliseconds(self, depth: int = 0) -> float:
        """For one query, with `depth` documents rescored."""
        k = min(max(_TIMED_K, depth), len(self.documents))

        def search(query: int) -> None:
            (ranked,) = self._rank(query, query + 1, k)
            if depth:
                self._rescore(query, ranked)

        return timed(search, len(self.queries))

    def _rank(self, start: int, stop: int, k: int) -> NDArray[np.intp]:
        if self.stored.dtype == "float32":
            # At once: `scores` goes through the documents a little at a time, to make floats of them.
            return top_k(self.queries[start:stop] @ self.documents.T, k)
        block = Quantized(self.asked.codes[start:stop], self.asked.dtype, self.asked.dimensions, self.asked.ranges)
        return top_k(scores(block, self.stored), k)

    def _rescore(self, query: int, ranked: NDArray[np.intp]) -> NDArray[np.intp]:
        near = np.sort(ranked)
        exact = np.vecdot(self.documents[near], self.queries[query])
        return near[np.argsort(-exact, kind="stable")]


def timed(search: Callable[[int], object], queries: int) -> float:
    """Milliseconds that a search for one query takes, the median of several."""
    taken: list[float] = []
    begun = time.perf_counter()
    for query in range(min(queries, _TIMED)):
        started = time.perf_counter()
        search(query)
        taken.append((time.perf_counter() - started) * 1000)
        if time.perf_counter() - begun > _TIMED_SECONDS:
            break
    return median(taken)
