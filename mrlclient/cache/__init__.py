"""Caches of embeddings: in memory, in a file, or on a server."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrlclient.cache.base import Cache, CacheStats, Entry, Found
from mrlclient.errors import ConfigurationError

if TYPE_CHECKING:
    from mrlclient.cache.memory import MemoryCache
    from mrlclient.cache.redis import RedisCache
    from mrlclient.cache.sqlite import SQLiteCache

__all__ = ["Cache", "CacheStats", "Entry", "Found", "MemoryCache", "RedisCache", "SQLiteCache", "open_cache"]

_HOME_OF = {
    "MemoryCache": "mrlclient.cache.memory",
    "RedisCache": "mrlclient.cache.redis",
    "SQLiteCache": "mrlclient.cache.sqlite",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def open_cache(where: str | Path | Cache) -> Cache:
    """The cache at an address.

    Args:
        where: `"memory:"`; a path or `"sqlite:PATH"` (`~` is the home folder); `"redis://…"`, `"rediss://…"`,
            `"valkey://…"`, `"valkeys://…"` or `"unix://…"`; or a cache, which is returned as it is. For a
            bound, a lifetime or a type, make a `MemoryCache`, `SQLiteCache` or `RedisCache` yourself.

    Raises:
        ConfigurationError: If it is none of these.
        MissingExtraError: If a package that it needs is not installed.
    """
    if isinstance(where, Cache):
        return where
    if isinstance(where, Path):
        where = f"sqlite:{where}"
    if not isinstance(where, str) or not where.strip():
        raise ConfigurationError("cache must be a path, 'memory:', 'sqlite:PATH', 'redis://HOST' or a Cache.")
    scheme, colon, rest = where.partition(":")
    if where == "memory:":
        from mrlclient.cache.memory import MemoryCache

        return MemoryCache()
    if scheme in ("redis", "rediss", "valkey", "valkeys", "unix") and colon:
        from mrlclient.cache.redis import RedisCache

        return RedisCache(where)
    if colon and "://" in where:
        raise ConfigurationError(f"There is no cache at {scheme}:// addresses. Use sqlite:, memory:, redis:, valkey:.")
    from mrlclient.cache.sqlite import SQLiteCache

    return SQLiteCache(rest if scheme == "sqlite" and colon else where)
