"""Caches of embeddings: in memory, in a file, or on a server."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrlclient.cache.address import kind_of
from mrlclient.cache.base import Cache, CacheStats, Entry, Found

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
    """Opens the cache at an address.

    Args:
        where: `"memory:"`; a path or `"sqlite:PATH"` (`~` is the home folder); `"redis://…"`, `"rediss://…"`,
            `"valkey://…"`, `"valkeys://…"` or `"unix://…"`; or a cache, which is returned as it is. For a size limit, a
            lifetime or a type, make a `MemoryCache`, `SQLiteCache` or `RedisCache` yourself.

    Raises:
        ConfigurationError: If it is none of these.
        MissingExtraError: If a package that it needs is not installed.
    """
    if isinstance(where, Cache):
        return where
    if isinstance(where, Path):
        where = f"sqlite:{where}"
    kind = kind_of(where if isinstance(where, str) else "")
    if kind == "memory":
        from mrlclient.cache.memory import MemoryCache

        return MemoryCache()
    if kind == "server":
        from mrlclient.cache.redis import RedisCache

        return RedisCache(where)
    from mrlclient.cache.sqlite import SQLiteCache

    return SQLiteCache(where.removeprefix("sqlite:"))
