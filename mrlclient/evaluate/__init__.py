"""What a model is good for: whether it nests, and how well it searches at each width."""

from mrlclient.evaluate.collections import Collection, docstrings
from mrlclient.evaluate.examples import Example, examples
from mrlclient.evaluate.metrics import ndcg, rank
from mrlclient.evaluate.probe import probe
from mrlclient.evaluate.server import ServerProbe, probe_server
from mrlclient.evaluate.verdict import ProbeResult

__all__ = [
    "Collection",
    "Example",
    "ProbeResult",
    "ServerProbe",
    "docstrings",
    "examples",
    "ndcg",
    "probe",
    "probe_server",
    "rank",
]
