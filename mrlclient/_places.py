"""Places among the requests of a `Gather` that are under way.

A worker takes a place before it begins a flow, so that no deadline runs meanwhile, and leaves it when an answer is
there: the next request goes out before the vectors of this one are decoded. A flow that sends again takes one again.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio


class _Held:
    """A place, or a worker that has none at the moment."""

    def __init__(self, places: threading.Semaphore | anyio.Semaphore) -> None:
        self._places: Any = places
        self._taken = False

    def leave(self) -> None:
        """Leaves it to somebody else."""
        if self._taken:
            self._taken = False
            self._places.release()


class Place(_Held):
    """A place of a thread."""

    def take(self, timeout: float | None = None) -> float | None:
        """Waits for a place, unless there is one. Returns what is then left of a timeout for a request."""
        begun = time.monotonic()
        if not self._taken:
            self._places.acquire()
            self._taken = True
        return _left(timeout, begun)


class AsyncPlace(_Held):
    """A place of a task. Whoever waits for it goes on at the next checkpoint after it is left."""

    async def take(self, timeout: float | None = None) -> float | None:
        """As for threads."""
        begun = time.monotonic()
        if not self._taken:
            await self._places.acquire()
            self._taken = True
        return _left(timeout, begun)


def _left(timeout: float | None, begun: float) -> float | None:
    """A moment at least, after which the request tells that its time is over."""
    return None if timeout is None else max(timeout - (time.monotonic() - begun), 1e-3)
