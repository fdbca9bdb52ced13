"""A cache that fails is a miss: it never changes a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mrlclient._signals import raised_by_handler
from mrlclient._warn import warn_user
from mrlclient.cache.base import Cache
from mrlclient.errors import CacheWarning
from mrlclient.keys import Entry, Found, KeyMaker, Look

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Seconds that a cache is left alone after a failure, so that a server that is gone does not slow every call.
_REST = 30.0


class GuardedCache:
    """What an embedder sees of its cache: failures are misses, and the first one warns.

    Args:
        cache: The cache.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.flights = cache.flights
        self._rests_until = 0.0
        self._warned = False
        self._closed = False
        self._maker: tuple[bytes, Sequence[str], KeyMaker] | None = None

    @property
    def blocking(self) -> bool:
        """Whether a call may wait for a disk or a network."""
        return self.cache.blocking

    def look(self, fields: Sequence[str], texts: Sequence[str], width: int, out: NDArray[np.float32]) -> Look:
        """Makes the texts' keys and asks for their rows, as `Cache.get_many`; without keys where that fails."""
        failures: list[Exception] = []
        if self._is_up():
            try:
                keys = self._key_maker(fields).keys(texts)
                return Look(keys, self.cache.get_many(keys, width, out))
            except Exception as error:
                failures.append(error)
            self._failed(failures.pop())
        return Look(None, Found(np.zeros(len(texts), dtype=np.bool_)))

    def keep(self, entries: Sequence[Entry]) -> None:
        """As `Cache.set_many`; nothing is kept where that fails."""
        if self._is_up():
            self._try(partial(self.cache.set_many, entries))

    def close(self) -> None:
        """Closes the cache. What comes later, of a batch that was under way, finds and keeps nothing."""
        self._closed = True
        self._try(self.cache.close)

    def _try(self, work: Callable[[], None]) -> None:
        failures: list[Exception] = []
        try:
            work()
        except Exception as error:
            failures.append(error)
        if failures:
            self._failed(failures.pop())

    def _key_maker(self, fields: Sequence[str]) -> KeyMaker:
        """The last one again, where the fields are the same: a single query costs little else."""
        secret, made = self.cache.secret, self._maker
        if made is None or made[0] != secret or made[1] != fields:
            self._maker = made = secret, fields, KeyMaker(secret, fields)
        return made[2]

    def _is_up(self) -> bool:
        return not self._closed and time.monotonic() >= self._rests_until

    def _failed(self, error: Exception) -> None:
        if (interruption := raised_by_handler(error)) is not None:
            raise interruption
        self._rests_until = time.monotonic() + _REST
        if not self._warned:
            self._warned = True
            # The error's own words may hold a path or an address, but never a text: a cache knows none.
            warn_user(
                f"The cache failed and is left out for {_REST:g} s ({type(error).__name__}: {error}). "
                "The vectors are right; they are just not kept.",
                CacheWarning,
            )
