"""The client for a Redis or Valkey server, for everything here that uses one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import valkey

from mrlclient.errors import ConfigurationError


def open_client(url: str, timeout: float) -> Any:
    """The package's client, which connects when it is first used, again after a loss, and anew in a forked child.

    Args:
        url: `redis://`, `rediss://`, `valkey://`, `valkeys://` or `unix:///path`.
        timeout: Seconds to wait for the server, each time.

    Raises:
        ConfigurationError: If the address cannot be used. The message does not show it: it may hold a password.
    """
    client: Any = None
    with suppress(Exception):  # whose words may hold a part of the address, and that a password
        parts = urlsplit(url)
        options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        if parts.scheme in ("rediss", "valkeys"):
            options["ssl_check_hostname"] = True  # which the package leaves out unless told
        made: Any = valkey.Valkey.from_url(url, **options)
        pool = made.connection_pool
        pool.connection_kwargs["decode_responses"] = False  # vectors are bytes, whatever the address says
        pool.connection_class(**pool.connection_kwargs)  # refuses options that it does not know
        # An @ behind the host is in truth a password's end: its / ? or # was not escaped.
        if parts.scheme == "unix" or "@" in parts.netloc or "@" not in url:
            client = made
    if client is None:
        raise ConfigurationError(
            "The address of a Redis or Valkey server must look like redis://user:password@host:6379/0 (rediss, valkey, "
            "valkeys) or unix:///path, with special characters escaped. It is not shown: it may hold a password."
        )
    return client
