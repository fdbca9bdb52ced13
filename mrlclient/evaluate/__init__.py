"""How well a model searches: metrics, data with known answers, and which size of the vectors is enough."""

from mrlclient.evaluate._sweep import sweep
from mrlclient.evaluate.collections import Collection, docstrings
from mrlclient.evaluate.examples import Example, examples
from mrlclient.evaluate.loading import SearchData, load
from mrlclient.evaluate.metrics import mrr, ndcg, overlap, rank, recall
from mrlclient.evaluate.outcome import Outcome

__all__ = [
    "Collection",
    "Example",
    "Outcome",
    "SearchData",
    "docstrings",
    "examples",
    "load",
    "mrr",
    "ndcg",
    "overlap",
    "rank",
    "recall",
    "sweep",
]
