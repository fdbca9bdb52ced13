"""What can go wrong: `Fault`, and the queue of those to come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mrlclient.testing.emulator.records import RecordedRequest

Expectation = Literal["ok", "contract_error", "bad_row", "retryable", "permanent"]

PROVIDERS = ("openai", "voyage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong with the next request, or the next few.

    With `status` or `body` the answer is that one, and the request is not looked at. Otherwise the request is answered
    as usual, and the other fields spoil the answer.

    Attributes:
        status: The status to answer; 200 where only `body` is given.
        body: The body to answer: bytes, or a dict that is sent as JSON. None is an empty body.
        headers: Headers to add or to put in place of the usual ones, by lower-case name.
        drop_headers: Names of headers to leave out, in lower case; a `*` at the end stands for any ending.
        ignore_fields: Fields of the request that the server acts as if it had not read.
        edit: Changes the payload of a 200 before it is written; what it returns is sent as JSON. For a payload that
            the request asked for as base64, the embeddings are strings.
        rewrite: Changes the bytes of the body.
        close: Drop the connection: `"before"` anything is sent, after the `"headers"`, or after half of the `"body"`.
        reset: Drop it with a reset instead of an orderly end.
        delay: Seconds before the answer begins.
        stall: Seconds of silence after half of the body.
        dribble: Seconds before each byte of the body.
        times: How many requests it applies to.
        when: Only a request for which this is true takes the fault.
        expects: What a strict client makes of it. `"ok"`: the right vectors all the same. `"contract_error"`: answered
            200, not usable, an error and no vectors. `"bad_row"`: one row is not usable, the others are. `"retryable"`:
            the same request may succeed. `"permanent"`: asking again does not help.
        providers: Whose answers it fits.
        note: What it needs or means, where the name does not say.
    """

    status: int | None = None
    body: bytes | dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop_headers: tuple[str, ...] = ()
    ignore_fields: tuple[str, ...] = ()
    edit: Callable[[dict[str, Any]], Any] | None = None
    rewrite: Callable[[bytes], bytes] | None = None
    close: Literal["before", "headers", "body"] | None = None
    reset: bool = False
    delay: float = 0.0
    stall: float = 0.0
    dribble: float = 0.0
    times: int = 1
    when: Callable[[RecordedRequest], bool] | None = None
    expects: Expectation = "ok"
    providers: tuple[str, ...] = PROVIDERS
    note: str = ""


class FaultQueue:
    """The faults to come, first in, first out. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Fault, int]] = []

    def append(self, fault: Fault) -> None:
        """Puts a fault at the end of the queue."""
        self.extend([fault])

    def extend(self, faults: Iterable[Fault]) -> None:
        """Puts faults at the end of the queue, in their order."""
        with self._lock:
            self._waiting.extend((fault, fault.times) for fault in faults)

    def clear(self) -> None:
        """Drops all faults."""
        with self._lock:
            self._waiting.clear()

    def __len__(self) -> int:
        """How many faults still wait; one with times left counts as one."""
        return len(self._waiting)

    def take(self, request: RecordedRequest) -> Fault | None:
        """The first waiting fault that is meant for this request, used up by one time."""
        with self._lock:
            for place, (fault, times) in enumerate(self._waiting):
                if fault.when is None or fault.when(request):
                    self._waiting[place : place + 1] = [(fault, times - 1)] if times > 1 else []
                    return fault
        return None
