"""A cache in this process's memory, limited in bytes; the least recently used are dropped first."""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from mrlclient.cache.base import Cache, CacheStats, Entry, Found, check_options
from mrlclient.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bytes of an entry beside its numbers: key, objects, dict. Measured with tracemalloc.
_OVERHEAD = 400


_caches: weakref.WeakSet[MemoryCache] = weakref.WeakSet()


class MemoryCache(Cache):
    """Vectors in memory, as float32.

    Args:
        max_bytes: The approximate size limit; the least recently used are dropped first. 256 MiB by default.
        ttl: Seconds that an entry is kept; by default without limit.
    """

    blocking = False

    def __init__(self, *, max_bytes: int = 256 * 2**20, ttl: float | None = None) -> None:
        if max_bytes is None:
            raise ConfigurationError("max_bytes of a cache in memory must be an integer, 1 or more, not None.")
        check_options(ttl=ttl, max_bytes=max_bytes)
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._secret = secrets.token_bytes(32)
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._bytes = 0
        self._hits = self._misses = 0
        self._tokens = self._usd = 0.0
        self._lock = threading.Lock()
        _caches.add(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A MemoryCache is not pickled: it belongs to one process. Make one in each process, or give all of them an "
            "SQLiteCache, which shares its file."
        )

    @property
    def secret(self) -> bytes:
        return self._secret

    def get_many(self, keys: Sequence[bytes], width: int, out: NDArray[np.float32]) -> Found:
        oldest = self._oldest()
        mask = np.zeros(len(keys), dtype=np.bool_)
        tokens = usd = 0.0
        found = 0
        with self._lock:
            for i, key in enumerate(keys):
                entry = self._entries.get(key)
                if entry is None or len(entry.vector) < width or entry.created < oldest:
                    continue
                self._entries.move_to_end(key)
                out[i] = entry.vector[:width]
                mask[i] = True
                found += 1
                tokens += entry.tokens
                usd += entry.usd
            self._hits += found
            self._misses += len(keys) - found
            self._tokens += tokens
            self._usd += usd
        return Found(mask, tokens, usd)

    def set_many(self, entries: Sequence[Entry]) -> None:
        now = time.time()
        with self._lock:
            oldest = self._oldest()
            for entry in entries:
                held = self._entries.get(entry.key)
                if held is not None and len(held.vector) >= len(entry.vector) and held.created >= oldest:
                    continue
                if held is not None:
                    self._drop(entry.key)
                kept = np.array(entry.vector, dtype=np.float32)
                kept.flags.writeable = False  # `items` hands it out
                self._entries[entry.key] = replace(entry, vector=kept, created=entry.created or now)
                self._bytes += _size(self._entries[entry.key])
            self._evict()

    def items(self) -> Iterator[Entry]:
        with self._lock:
            oldest = self._oldest()
            held = [entry for entry in self._entries.values() if entry.created >= oldest]
        return iter(held)

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(len(self._entries), self._bytes, self._hits, self._misses, self._tokens, self._usd)

    def prune(self) -> int:
        with self._lock:
            before, oldest = len(self._entries), self._oldest()
            for key in [key for key, entry in self._entries.items() if entry.created < oldest]:
                self._drop(key)
            self._evict()
            return before - len(self._entries)

    def clear(self) -> int:
        with self._lock:
            dropped = len(self._entries)
            self._entries.clear()
            self._bytes = 0
            return dropped

    def verify(self) -> tuple[int, int]:
        return len(self._entries), 0

    def close(self) -> None:
        """Keeps what it holds: another embedder may share it."""

    def _renew(self) -> None:
        """In a forked child: another thread may have held the lock, and is not in this process to let go of it."""
        self._lock = threading.Lock()
        self._bytes = sum(map(_size, self._entries.values()))

    def _oldest(self) -> float:
        return 0.0 if self._ttl is None else time.time() - self._ttl

    def _drop(self, key: bytes) -> None:
        self._bytes -= _size(self._entries.pop(key))

    def _evict(self) -> None:
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))


def _size(entry: Entry) -> int:
    return entry.vector.nbytes + _OVERHEAD


def _after_fork() -> None:
    for cache in list(_caches):
        cache._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
