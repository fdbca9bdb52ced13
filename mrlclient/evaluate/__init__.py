"""How well a model searches at each width: a collection that every Python carries, and nDCG."""

from mrlclient.evaluate.collections import Collection, docstrings
from mrlclient.evaluate.examples import Example, examples
from mrlclient.evaluate.metrics import mrr, ndcg, overlap, rank, recall

__all__ = ["Collection", "Example", "docstrings", "examples", "mrr", "ndcg", "overlap", "rank", "recall"]
