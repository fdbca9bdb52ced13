"""How good a ranking is."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mrlclient.search import top_k

if TYPE_CHECKING:
    from numpy.typing import NDArray

Query = TypeVar("Query", bound=Hashable)

#: Queries scored at a time, so that the scores of a large collection do not all stand in memory.
_BLOCK_QUERIES = 256


def rank(queries: NDArray[np.float32], documents: NDArray[np.float32], k: int = 10) -> NDArray[np.intp]:
    """The documents nearest to each query, by inner product: for unit rows, by cosine.

    Args:
        queries: (n, d) float32.
        documents: (m, d) float32, of the same space and width as `queries`.
        k: Documents to keep for each query; all where there are fewer.

    Returns:
        (n, min(k, m)) indices of documents, best first. Of equal scores the lower index stands first.

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
        rankings: For each query its documents, best first. A query that is missing found nothing.
        qrels: For each query the grades of its documents; one that is missing has grade 0, and a negative grade counts
            as 0. Only these queries are scored.
        k: Ranks that count.

    Returns:
        For each query of `qrels`, 0.0 to 1.0; 0.0 where no document is relevant.

    Raises:
        ValueError: If `k` is not positive, or a ranking has a document twice.
    """
    discounts = 1.0 / np.log2(np.arange(2, _positive(k) + 2))
    return {
        query: _ndcg(list(islice(rankings.get(query, ()), k)), grades, discounts) for query, grades in qrels.items()
    }


def _ndcg(ranking: list[Any], grades: Mapping[Any, float], discounts: NDArray[np.float64]) -> float:
    if len(set(ranking)) < len(ranking):
        raise ValueError("A ranking has a document twice.")
    best = _dcg(sorted(grades.values(), reverse=True)[: len(discounts)], discounts)
    return _dcg([grades.get(document, 0.0) for document in ranking], discounts) / best if best else 0.0


def _dcg(gains: list[float], discounts: NDArray[np.float64]) -> float:
    return float(np.maximum(gains, 0.0) @ discounts[: len(gains)])


def _positive(k: int) -> int:
    if k < 1:
        raise ValueError(f"k must be positive, not {k}.")
    return k
