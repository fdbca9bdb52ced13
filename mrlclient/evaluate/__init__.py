"""What a model is good for: whether it nests, how well it searches, and which size of its vectors is enough."""

from mrlclient.evaluate._sweep import sweep
from mrlclient.evaluate.collections import Collection, docstrings
from mrlclient.evaluate.loading import SearchData, load
from mrlclient.evaluate.metrics import mrr, ndcg, overlap, rank, recall
from mrlclient.evaluate.outcome import Outcome
from mrlclient.evaluate.probe import probe
from mrlclient.evaluate.server import ServerProbe, probe_server
from mrlclient.evaluate.verdict import ProbeResult

__all__ = [
    "Collection",
    "Outcome",
    "ProbeResult",
    "SearchData",
    "ServerProbe",
    "docstrings",
    "load",
    "mrr",
    "ndcg",
    "overlap",
    "probe",
    "probe_server",
    "rank",
    "recall",
    "sweep",
]
