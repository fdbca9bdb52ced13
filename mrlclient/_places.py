"""Places among the requests of a `Gather` that are under way.

A worker takes a place before it begins a flow, so that no deadline runs meanwhile, and leaves it when an answer is
there: the next request goes out before the vectors of this one are decoded. A flow that sends again takes one again.
"""

from __future__ import annotations

import threading
import time

import anyio


class Place:
    """A place of a thread."""

    def __init__(self, places: threading.Semaphore) -> None:
        self._places = places
        self._taken = False

    def take(self, timeout: float | None = None) -> float | None:
        """Waits for a place, unless this is one. Returns what is then left of a timeout for a request."""
        begun = time.monotonic()
        if not self._taken:
            self._places.acquire()
            self._taken = True
        return _left(timeout, begun)

    def leave(self) -> None:
        """Leaves it to somebody else."""
        if self._taken:
            self._taken = False
            self._places.release()


class AsyncPlace:
    """A place of a task."""

    def __init__(self, places: anyio.Semaphore) -> None:
        self._places = places
        self._taken = False

    async def take(self, timeout: float | None = None) -> float | None:
        """As for threads."""
        begun = time.monotonic()
        if not self._taken:
            await self._places.acquire()
            self._taken = True
        return _left(timeout, begun)

    def leave(self) -> None:
        """As for threads. Whoever waits for it goes on at the next checkpoint."""
        if self._taken:
            self._taken = False
            self._places.release()


def _left(timeout: float | None, begun: float) -> float | None:
    """A moment at least, after which the request tells that its time is over."""
    return None if timeout is None else max(timeout - (time.monotonic() - begun), 1e-3)
