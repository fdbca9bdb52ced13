"""A cache's address, as it travels to another process."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from mrlclient.errors import ConfigurationError


def portable(where: str | Path) -> str:
    """The address as `open_cache` reads it, and as it is understood in any folder.

    Raises:
        ConfigurationError: If it holds a user name or a password: these stay in the process that they were given to.
    """
    if isinstance(where, Path):
        where = f"sqlite:{where}"
    if where == "memory:":
        return where
    if where.startswith(("redis:", "rediss:", "valkey:", "valkeys:", "unix:")):
        options = parse_qs(urlsplit(where).query)
        if "@" in where or any(name.endswith(("username", "password")) for name in options):
            raise ConfigurationError(
                "The address of a cache or of shared limits holds a user name or a password: these are not pickled. "
                "Make the embedder in the process that uses it."
            )
        return where
    return f"sqlite:{Path(where.removeprefix('sqlite:')).expanduser().absolute()}"
