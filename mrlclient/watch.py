"""When an embedder's canary is due, and what is embedded for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mrlclient.call import Call
from mrlclient.canary import CANARY_TEXTS, Canary
from mrlclient.dimensions import Resolution, resolve
from mrlclient.endpoints import Endpoint, Route
from mrlclient.errors import ProviderError
from mrlclient.flow import embed
from mrlclient.operations import Flow, Policy
from mrlclient.plan import make_plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mrlclient.result import EmbeddingResult


class Watch:
    """An embedder's canary: whoever comes first when a check is due makes it, before its own texts are sent.

    Args:
        canary: What remembers.
        policy: How hard to try.
    """

    def __init__(self, canary: Canary, policy: Policy) -> None:
        self._canary = canary
        self._policy = policy
        self._checking: set[tuple[str, ...]] = set()

    @contextmanager
    def check(self, route: Route) -> Iterator[Check | None]:
        """What has to be checked before a route's main endpoint is used; None where nothing is, or somebody is at it.

        Where the endpoint cannot be asked and there are others, the check stays due, and the call goes on to them.

        Raises:
            DriftError: If an earlier check failed.
            ConfigurationError: If the canary's file cannot be used.
        """
        endpoint = route.main
        provider = endpoint.provider
        spec = provider.spec
        # The texts are embedded as documents, and so with what is put before one.
        prompt = spec.prompts.get("document", "")
        identity = (*provider.identity, spec.address, spec.revision or "", prompt, spec.recipe)
        if not self._canary.due(identity, time.time()) or identity in self._checking:
            yield None
            return
        self._checking.add(identity)
        try:
            yield Check(self._canary, identity, endpoint, self._policy)
        except ProviderError:
            if len(route.endpoints) == 1:
                raise
        finally:
            self._checking.discard(identity)


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one endpoint."""

    canary: Canary
    identity: tuple[str, ...]
    endpoint: Endpoint
    policy: Policy

    def flow(self) -> Flow[EmbeddingResult]:
        """Embeds the canary's texts at full width."""
        return embed_canary(self.endpoint, self.policy, resolve(self.endpoint.provider.spec, None))

    def conclude(self, rows: NDArray[np.float32]) -> None:
        """Compares what came. It writes a file, so it may wait for a disk.

        Raises:
            DriftError: If the model is no longer what it was.
        """
        self.canary.record_or_check(self.identity, rows, time.time(), model=self.endpoint.provider.spec.address)


def embed_canary(endpoint: Endpoint, policy: Policy, resolution: Resolution) -> Flow[EmbeddingResult]:
    """Embeds the canary's texts as documents, through no cache and nobody else."""
    provider = endpoint.provider
    plan = make_plan(provider.spec, provider.packing, CANARY_TEXTS, resolution, input_type="document")
    return embed(Call(plan, Route([[endpoint]]), policy))
