"""The third driver: it performs a flow's operations from a script, without a clock, threads or sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from mrlclient.drivers import SyncDriver
from mrlclient.operations import (
    CacheKeep,
    CacheLook,
    CountTokens,
    Gather,
    Join,
    Now,
    Operation,
    Reserve,
    Send,
    Sleep,
    Wait,
)


class ScriptedDriver(SyncDriver):
    """Runs a flow against a script; the flows of a `Gather` are taken and run one after the other.

    Args:
        reply: What a request is answered with; what it raises is thrown into the flow.
        count_tokens: What a text's tokens are counted as.

    Attributes:
        sent: The requests, in the order in which they were sent.
        timeouts: Seconds that each request was given.
        slept: Seconds of each wait.
        clock: Seconds so far. Only waiting takes time, and whatever `reply` adds to it.
        limits: The bound of each `Gather`.
    """

    def __init__(self, reply: Callable[[Any], Any], count_tokens: Callable[[str], int] = len) -> None:
        self._reply = reply
        self._count_tokens = count_tokens
        self.sent: list[Any] = []
        self.timeouts: list[float | None] = []
        self.slept: list[float] = []
        self.clock = 0.0
        self.limits: list[int] = []

    def _perform(self, operation: Operation) -> Any:
        match operation:
            case Send(_, request, timeout):
                self.sent.append(request)
                self.timeouts.append(timeout)
                return self._reply(request)
            case CountTokens(_, texts):
                return [self._count_tokens(text) for text in texts]
            case CacheLook(store, fields, texts, width, out):
                return store.look(fields, texts, width, out)
            case CacheKeep(store, entries):
                return store.keep(entries)
            case Join():
                raise AssertionError("a script has one call only: there is nobody to wait for")
            case Now():
                return self.clock
            case Wait(future, timeout):
                if not future.done():
                    self.clock += timeout
                return future.done()
            case Reserve(gate, tokens):
                return gate.reserve(tokens)
            case Sleep(seconds):
                self.slept.append(seconds)
                self.clock += seconds
                return None
            case Gather(flows, limit):
                self.limits.append(limit)
                return [self.run(flow) for flow in flows]
            case _:
                assert_never(operation)
