"""Rankings as scores, a number for each query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.evaluate.metrics import Judgements, overlap

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Documents that are ranked for a query.
DEPTH = 100

#: Scores by their name, each (n,).
Scores = Mapping[str, "NDArray[np.float64]"]
Score = Callable[["NDArray[np.intp]"], Scores]


def judged(qrels: Sequence[Mapping[int, float]], documents: int) -> Score:
    """How good rankings are, by what was judged."""
    judgements = Judgements(qrels, documents)

    def score(rankings: NDArray[np.intp]) -> Scores:
        gains = judgements.gains(rankings)
        return {
            "ndcg@10": gains.ndcg(10),
            "recall@10": gains.recall(10),
            "recall@100": gains.recall(100),
            "mrr@10": gains.mrr(10),
        }

    return score


def agreeing(full: NDArray[np.intp]) -> Score:
    """How far rankings agree with those of the full width."""

    def score(rankings: NDArray[np.intp]) -> Scores:
        return {f"overlap@{k}": overlap(rankings, full, k=k) for k in (10, 100)}

    return score


def means(scores: Scores) -> dict[str, float]:
    """The mean of each over the queries."""
    return {name: float(values.mean()) for name, values in scores.items()}
