"""Gates: what every request of an account passes, whichever thread, event loop or embedder of this process sends it."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from mrlclient.errors import ConfigurationError
from mrlclient.limits import Limits, Quota
from mrlclient.pacing import Concurrency, Ending, Meter, RetryBudget, Ticket

if TYPE_CHECKING:
    from mrlclient._shared_bucket import SharedBucket


class Gate:
    """What bounds the requests of one account.

    A request enters, and waits for a place; reserves its tokens, and waits as long as it is told; is sent; and leaves.
    Only `reserve` can wait for anything, and only where `blocking` says so.

    Args:
        account: Who pays: the origin, the key's fingerprint, the model.
        limits: How much may be asked for.
    """

    def __init__(self, account: tuple[str, ...], limits: Limits) -> None:
        self._limits = [limits]
        self._assumed: Quota | None = None
        self._shared = None if limits.shared is None else _open_shared(limits.shared, account)
        self._renew()

    def _renew(self) -> None:
        """Begins anew: a forked child has none of its parent's requests, and may have caught a lock in its grip."""
        # The collector may close a forgotten flow, which leaves, in the very thread that holds the lock.
        self._lock = threading.RLock()
        self._waiting: deque[Ticket] = deque()
        self._line = Concurrency(self._limits[0].max_in_flight)
        self._meter = Meter(self._limits[0].requests_per_minute, self._limits[0].tokens_per_minute)
        self._retries = RetryBudget()
        self._heard = False
        for limits in self._limits[1:]:
            self._bound(limits)
        if self._assumed is not None:
            self._meter.observe(time.monotonic(), self._assumed)
        if self._shared is not None:
            self._shared.renew()

    def bound(self, limits: Limits) -> None:
        """Somebody else uses the account, too: the stricter value counts, for as long as anybody does.

        Raises:
            ConfigurationError: If the two do not name the same shared limit.
        """
        if limits.shared != self._limits[0].shared:
            raise ConfigurationError(
                "Two embedders of this process use one model with one key, and name different shared limits. "
                "Give both the same Limits(shared=...)."
            )
        with self._lock:
            if limits not in self._limits:
                self._limits.append(limits)
                self._bound(limits)

    def _bound(self, limits: Limits) -> None:
        self._line.bound(limits.max_in_flight)
        self._meter.requests.bound(limits.requests_per_minute)
        self._meter.tokens.bound(limits.tokens_per_minute)

    @property
    def blocking(self) -> bool:
        """Whether `reserve` may wait for a network."""
        return self._shared is not None

    def enter(self) -> Ticket:
        """Asks for a place, in the order of asking. Whoever enters has to leave, come what may."""
        ticket = Ticket()
        with self._lock:
            # Nobody waits while there is room: whoever leaves hands it on.
            if self._line.has_room:
                ticket.line, ticket.number = self._line, self._line.start()
            else:
                ticket.ready = Future()
                self._waiting.append(ticket)
        return ticket

    def leave(self, ticket: Ticket, outcome: Ending) -> None:
        """Gives a place up, or the wait for one. To leave again changes nothing.

        Args:
            ticket: What `enter` gave.
            outcome: How the request ended; `"failed"` where it was never sent.
        """
        admitted = []
        with self._lock:
            line, ticket.line = ticket.line, None
            if line is None:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                return
            line.end(ticket.number, outcome)
            # In a forked child, a ticket of the parent's belongs to a line that is gone.
            while self._waiting and self._line.has_room:
                following = self._waiting.popleft()
                assert following.ready is not None
                if following.ready.set_running_or_notify_cancel():
                    following.line, following.number = self._line, self._line.start()
                    admitted.append(following.ready)
        for ready in admitted:
            # Outside the lock: it calls whoever waits.
            ready.set_result(None)

    def reserve(self, tokens: float) -> float:
        """Takes one request and its tokens from what may be asked for.

        Returns:
            Seconds to wait before it may be sent; 0.0 for now.
        """
        with self._lock:
            wait = self._meter.reserve(time.monotonic(), tokens)
            limits = (self._meter.requests.limit, self._meter.tokens.limit)
        if self._shared is None:
            return wait
        # What is kept here goes on counting, so that it is right where the server fails.
        return max(wait, self._shared.reserve(tokens, *limits))

    def give_back(self, tokens: float) -> None:
        """A reservation was not used: one request and these tokens."""
        with self._lock:
            self._meter.give_back(tokens)
        if self._shared is not None:
            self._shared.give_back(tokens)

    def settle(self, reserved: float, used: float) -> None:
        """A request took another number of tokens than were reserved for it."""
        with self._lock:
            self._meter.settle(reserved, used)
        if self._shared is not None:
            self._shared.settle(reserved, used)

    def assume(self, quota: Quota) -> None:
        """What is thought of the limits, for as long as no answer has said anything of them."""
        with self._lock:
            if self._assumed is None and not self._heard:
                self._assumed = quota
                self._meter.observe(time.monotonic(), quota)

    def observe(self, quota: Quota) -> None:
        """What the headers of an answer say of the limits."""
        with self._lock:
            self._heard = True
            self._meter.observe(time.monotonic(), quota)

    def pause(self, seconds: float) -> None:
        """The server wants everybody to wait: nobody who reserves from now on goes before it is over."""
        with self._lock:
            self._meter.pause(time.monotonic(), seconds)

    def paused(self) -> float:
        """Seconds that a pause still has, for those who had been told to go before it began; 0.0 for none."""
        with self._lock:
            return self._meter.paused(time.monotonic())

    def first_attempt(self) -> None:
        """Something is sent for the first time, which pays for retries."""
        with self._lock:
            self._retries.deposit()

    def may_retry(self) -> bool:
        """Pays for a retry, and says whether there may be one."""
        with self._lock:
            return self._retries.withdraw()


def gate_for(account: tuple[str, ...], limits: Limits) -> Gate:
    """The gate of an account in this process. It lives as long as somebody holds it.

    Raises:
        ConfigurationError: If somebody holds it with another shared limit, or the address of that cannot be used.
        MissingExtraError: If a shared limit's package is not installed.
    """
    with _registry:
        gate = _gates.get(account)
        if gate is None:
            gate = _gates[account] = Gate(account, limits)
        else:
            gate.bound(limits)
        return gate


def _open_shared(url: str, account: tuple[str, ...]) -> SharedBucket:
    from mrlclient._shared_bucket import SharedBucket

    return SharedBucket(url, account)


def _after_fork() -> None:
    global _registry
    _registry = threading.Lock()
    for gate in list(_gates.values()):
        gate._renew()


_registry = threading.Lock()
_gates: weakref.WeakValueDictionary[tuple[str, ...], Gate] = weakref.WeakValueDictionary()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
