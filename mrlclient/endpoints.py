"""Who may answer: endpoints of one space, which of them is asked, and which is left alone for a while.

An endpoint that fails several times in a row is taken out; after a while one request may try it, and decides whether it
comes back. That is the consecutive-errors kind of outlier detection, with half-open probing as in a circuit breaker.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from mrlclient.errors import AuthenticationError, MRLError, QuotaError
from mrlclient.events import log_endpoint_back, log_endpoint_out
from mrlclient.operations import Gate, Speaker
from mrlclient.tokens import TokenEstimator

#: Failures in a row after which an endpoint is taken out.
_FAILURES = 3
#: Seconds that it stays out, the first time and at most; each time in a row doubles them.
_OUT, _LONGEST_OUT = 30.0, 300.0


class Health:
    """Whether an endpoint is worth asking.

    Threads share it without a lock, which a fork could catch closed: what a race costs is a request to one that is out.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._times_out = 0
        self._until = 0.0
        self._probed_until = 0.0

    @property
    def back_at(self) -> float:
        """When it may be asked again."""
        return self._until

    def is_worth_asking(self, now: float) -> bool:
        """Whether it is in; or, where its time out is over, whether nobody is trying it at the moment."""
        return not self._times_out or (now >= self._until and now >= self._probed_until)

    def ask(self, now: float) -> None:
        """It is asked. Where it was out, others keep away until this request tells how it is."""
        if self._times_out:
            self._probed_until = now + _OUT

    def succeeded(self) -> bool:
        """It answered. Returns whether it was out until then."""
        was_out = self._times_out > 0
        self._failures = self._times_out = 0
        return was_out

    def failed(self, now: float, error: MRLError) -> float | None:
        """It failed. Returns the seconds that it is taken out for: at once where no further try can help."""
        self._failures += 1
        hopeless = isinstance(error, AuthenticationError | QuotaError)
        if not (self._failures >= _FAILURES or self._times_out or hopeless):
            return None
        wait = min(_OUT * 2.0**self._times_out, _LONGEST_OUT)
        self._until = now + wait
        self._times_out += 1
        self._failures, self._probed_until = 0, 0.0
        return wait


@dataclass(eq=False, slots=True)
class Endpoint:
    """One who may answer.

    Attributes:
        provider: The provider.
        label: How results and messages call it.
        host: The host that is asked; None for what is computed here.
        port: Its port.
        gate: What bounds its requests; None for none.
        estimator: What is known of its model's tokens; endpoints of one model share it.
        under_way: The requests that it has at the moment. A set, because a number would drift between threads.
    """

    provider: Speaker
    label: str
    gate: Gate | None = None
    host: str | None = None
    port: int | None = None
    estimator: TokenEstimator = field(default_factory=TokenEstimator)
    under_way: set[object] = field(default_factory=set)
    health: Health = field(default_factory=Health)


class Route:
    """Endpoints in tiers: a tier is asked only where nobody of the tiers before it is worth asking.

    Args:
        tiers: At least one, none of them empty. The first endpoint of all is the main one: its model is the model.
    """

    def __init__(self, tiers: Sequence[Sequence[Endpoint]]) -> None:
        self._tiers = tiers
        self.endpoints = [endpoint for tier in tiers for endpoint in tier]
        self.main = self.endpoints[0]

    def choose(self, now: float, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """The endpoint to ask next; None where all that are worth it were tried.

        Within a tier, the one with the fewest requests under way; whose account has to wait by the server's word comes
        after all the others. Where all are out and none was tried, the one that comes back first: to ask is better than
        to give up unasked.
        """
        if len(self.endpoints) == 1:
            return None if tried else self.main
        able = [each for each in self.endpoints if each not in tried and each.health.is_worth_asking(now)]
        ready = [each for each in able if each.gate is None or not each.gate.paused()]
        for tier in self._tiers:
            of_tier = [each for each in ready or able if each in tier]
            if of_tier:
                return min(of_tier, key=lambda each: len(each.under_way))
        return None if tried else min(self.endpoints, key=lambda each: each.health.back_at)

    def succeeded(self, endpoint: Endpoint) -> None:
        """An endpoint answered."""
        if endpoint.health.succeeded() and len(self.endpoints) > 1:
            log_endpoint_back(endpoint.provider.spec, _place(endpoint))

    def failed(self, endpoint: Endpoint, now: float, error: MRLError) -> None:
        """An endpoint failed. Where there are others, it may be left out for a while."""
        wait = endpoint.health.failed(now, error)
        if wait is not None and len(self.endpoints) > 1:
            log_endpoint_out(endpoint.provider.spec, _place(endpoint), wait, error)


def _place(endpoint: Endpoint) -> str:
    """Where it is: the model is named beside it."""
    return endpoint.label.removeprefix(f"{endpoint.provider.spec.address} at ")
