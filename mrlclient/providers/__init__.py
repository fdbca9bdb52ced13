"""One file per provider, and what a provider of your own is made of."""

from mrlclient.operations import Answer
from mrlclient.packing import Packing
from mrlclient.plan import Batch
from mrlclient.providers.base import LocalProvider, Provider

__all__ = ["Answer", "Batch", "LocalProvider", "Packing", "Provider"]
