"""A cache's address: what kind of place it is, and how it travels to another process."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from mrlclient.errors import ConfigurationError

_SERVERS = ("redis", "rediss", "valkey", "valkeys", "unix")


def kind_of(where: str) -> Literal["memory", "server", "file"]:
    """What an address stands for.

    Raises:
        ConfigurationError: If there is no cache at such addresses.
    """
    scheme, colon, _ = where.partition(":")
    if not where.strip():
        raise ConfigurationError("cache must be a path, 'memory:', 'sqlite:PATH', 'redis://HOST' or a Cache.")
    if where == "memory:":
        return "memory"
    if scheme in _SERVERS and colon:
        return "server"
    if where.partition("//")[0] in _SERVERS:
        # Taken for a path, it would be a file whose name may hold a password.
        raise ConfigurationError("The address of a server has a colon before its //, as in redis://HOST.")
    if colon and "://" in where:
        raise ConfigurationError(f"There is no cache at {scheme}:// addresses. Use sqlite:, memory:, redis:, valkey:.")
    return "file"


def portable(where: str | Path) -> str:
    """The address as `open_cache` reads it, and as it is understood in any folder.

    Raises:
        ConfigurationError: If it holds a user name or a password: these stay in the process that they were given to.
    """
    if isinstance(where, Path):
        where = f"sqlite:{where}"
    kind = kind_of(where)
    if kind == "server":
        options = parse_qs(urlsplit(where).query)
        if "@" in where or any(name.endswith(("username", "password")) for name in options):
            raise ConfigurationError(
                "The address of a cache or of shared limits holds a user name or a password: these are not pickled. "
                "Make the embedder in the process that uses it."
            )
    if kind != "file":
        return where
    return f"sqlite:{Path(where.removeprefix('sqlite:')).expanduser().absolute()}"
