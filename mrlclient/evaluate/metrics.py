"""How good a ranking is."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mrlclient.search import top_k

if TYPE_CHECKING:
    from numpy.typing import NDArray

Query = TypeVar("Query", bound=Hashable)

#: Queries scored at a time, so that the scores of a large collection do not all stand in memory.
_BLOCK_QUERIES = 64


def rank(queries: NDArray[np.float32], documents: NDArray[np.float32], k: int = 10) -> NDArray[np.intp]:
    """The documents nearest to each query, by inner product: for unit rows, by cosine.

    Args:
        queries: (n, d) float32.
        documents: (m, d) float32, of the same space and width as `queries`.
        k: Documents to keep for each query; all if there are fewer.

    Returns:
        (n, min(k, m)) indices of documents, best first; ties are in the order of the indices.

    Raises:
        ValueError: If `k` is not positive.
    """
    k = min(_positive(k), len(documents))
    ranked = np.empty((len(queries), k), dtype=np.intp)
    for start in range(0, len(queries) if k else 0, _BLOCK_QUERIES):
        block = queries[start : start + _BLOCK_QUERIES]
        ranked[start : start + len(block)] = top_k(block @ documents.T, k)
    return ranked


def ndcg(
    rankings: Mapping[Query, Iterable[Any]], qrels: Mapping[Query, Mapping[Any, float]], *, k: int = 10
) -> dict[Query, float]:
    """Normalised discounted cumulated gain of each query at rank `k`.

    DCG is the sum over the ranks i = 1 to k of gain(i) / log2(i + 1); nDCG is DCG divided by that of the best possible
    ranking (Järvelin & Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4)). As in
    trec_eval's `ndcg_cut` the gain is the grade itself, not 2^grade - 1, and every rank is discounted.

    For a known-item search the mean over the queries is `fmean(ndcg(dict(enumerate(rank(...))), qrels).values())`.

    Args:
        rankings: For each query its documents, best first. A missing query found nothing.
        qrels: For each query the grades of its documents. A missing document has grade 0, and a negative grade counts
            as 0. Only these queries are scored.
        k: Cutoff rank.

    Returns:
        For each query of `qrels`, 0.0 to 1.0; 0.0 if no document is relevant.

    Raises:
        ValueError: If `k` is not positive, or a ranking has a document twice.
    """
    return _each(qrels, _gains(rankings, qrels, _positive(k)).ndcg(k))


def recall(
    rankings: Mapping[Query, Iterable[Any]], qrels: Mapping[Query, Mapping[Any, float]], *, k: int = 100
) -> dict[Query, float]:
    """The share of each query's relevant documents that is among the first `k`, as trec_eval's `recall`.

    Args:
        rankings: As for `ndcg`.
        qrels: As for `ndcg`; a document is relevant where its grade is above 0.
        k: Cutoff rank.

    Returns:
        For each query of `qrels`, 0.0 to 1.0; 0.0 if no document is relevant.

    Raises:
        ValueError: If `k` is not positive, or a ranking has a document twice.
    """
    return _each(qrels, _gains(rankings, qrels, _positive(k)).recall(k))


def mrr(
    rankings: Mapping[Query, Iterable[Any]], qrels: Mapping[Query, Mapping[Any, float]], *, k: int = 10
) -> dict[Query, float]:
    """One divided by the rank of each query's first relevant document, as trec_eval's `recip_rank`.

    Args:
        rankings: As for `ndcg`.
        qrels: As for `recall`.
        k: Cutoff rank.

    Returns:
        For each query of `qrels`, 1.0 down to 1 / k; 0.0 if no relevant document is among the first `k`.

    Raises:
        ValueError: If `k` is not positive, or a ranking has a document twice.
    """
    return _each(qrels, _gains(rankings, qrels, _positive(k)).mrr(k))


def overlap(rankings: NDArray[np.intp], others: NDArray[np.intp], *, k: int = 10) -> NDArray[np.float64]:
    """The share of the first `k` documents of one ranking that are among the first `k` of another, in any order.

    It tells how far two rankings agree, not how good they are.

    Args:
        rankings: (n, r) documents, best first, each at most once.
        others: (n, r) rankings for the same queries.
        k: Cutoff rank; all ranks if there are fewer.

    Returns:
        (n,) 0.0 to 1.0.

    Raises:
        ValueError: If `k` is not positive, or there is nothing to compare.
    """
    k = min(_positive(k), rankings.shape[1], others.shape[1])
    if not k or len(rankings) != len(others):
        raise ValueError(f"Rankings of the shapes {rankings.shape} and {others.shape} cannot be compared.")
    both = np.sort(np.concatenate([rankings[:, :k], others[:, :k]], axis=1), axis=1)
    return np.asarray((both[:, 1:] == both[:, :-1]).sum(axis=1) / k)


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """What rankings found, and what there was to be found.

    Attributes:
        found: (n, r) the grades of the documents in each ranking, best first; 0 where one is not relevant.
        best: (n, m) the grades of each query's relevant documents, highest first, then 0.
    """

    found: NDArray[np.float64]
    best: NDArray[np.float64]

    def ndcg(self, k: int) -> NDArray[np.float64]:
        """(n,) see `ndcg`."""
        return _quotient(_dcg(self.found[:, :k]), _dcg(self.best[:, :k]))

    def recall(self, k: int) -> NDArray[np.float64]:
        """(n,) see `recall`."""
        return _quotient(np.count_nonzero(self.found[:, :k], axis=1), np.count_nonzero(self.best, axis=1))

    def mrr(self, k: int) -> NDArray[np.float64]:
        """(n,) see `mrr`."""
        relevant = self.found[:, :k] > 0
        # The sum is 0 but for the first that is relevant.
        first = relevant & (np.cumsum(relevant, axis=1) == 1)
        return np.asarray(first @ (1.0 / np.arange(1, relevant.shape[1] + 1)))


class Judgements:
    """Which documents answer which query, by their places, to look up many rankings of many queries at once.

    Args:
        qrels: For each query the grades of its documents, by their places.
        documents: How many documents there are.
    """

    def __init__(self, qrels: Sequence[Mapping[int, float]], documents: int) -> None:
        self._documents = documents
        pairs = sorted(
            (query * documents + document, grade)
            for query, grades in enumerate(qrels)
            for document, grade in grades.items()
            if grade > 0
        )
        self._keys = np.array([key for key, _ in pairs], dtype=np.int64)
        self._grades = np.array([grade for _, grade in pairs], dtype=np.float64)
        self._best = _padded([sorted((grade for grade in g.values() if grade > 0), reverse=True) for g in qrels])

    def gains(self, rankings: NDArray[np.intp]) -> Gains:
        """What the rankings (n, r) of all the queries found."""
        keys = np.arange(len(rankings), dtype=np.int64)[:, None] * self._documents + rankings
        if not len(self._keys):
            return Gains(np.zeros(keys.shape), self._best)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return Gains(np.where(self._keys[places] == keys, self._grades[places], 0.0), self._best)


def _gains(rankings: Mapping[Query, Iterable[Any]], qrels: Mapping[Query, Mapping[Any, float]], k: int) -> Gains:
    found, best = [], []
    for query, grades in qrels.items():
        ranking = list(islice(rankings.get(query, ()), k))
        if len(set(ranking)) < len(ranking):
            raise ValueError("A ranking has a document twice.")
        found.append([max(grades.get(document, 0.0), 0.0) for document in ranking])
        best.append(sorted((grade for grade in grades.values() if grade > 0), reverse=True))
    return Gains(_padded(found), _padded(best))


def _padded(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    padded = np.zeros((len(rows), max(map(len, rows), default=0)))
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded


def _each(queries: Iterable[Query], scores: NDArray[np.float64]) -> dict[Query, float]:
    return dict(zip(queries, scores.tolist(), strict=True))


def _dcg(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(gains @ (1.0 / np.log2(np.arange(2, gains.shape[1] + 2))))


def _quotient(found: NDArray[Any], best: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.divide(found, best, out=np.zeros(len(best)), where=best > 0))


def _positive(k: int) -> int:
    if k < 1:
        raise ValueError(f"k must be positive, not {k}.")
    return k
