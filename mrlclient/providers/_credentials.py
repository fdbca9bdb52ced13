"""Keys, and where they may go."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import httpx2

from mrlclient.errors import ConfigurationError

_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")


class Secret:
    """A key. It shows itself to nobody by accident, and does not pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself."""
        return self._value

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header that shows it to the server; none for `NO_KEY`."""
        return ((b"Authorization", b"Bearer " + self._value.encode("ascii")),) if self._value else ()

    def is_sendable(self) -> bool:
        """Whether a header can carry it. What h11 refuses it quotes, so that it must be refused before."""
        return bool(self._value) and all("!" <= character <= "~" for character in self._value)

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> Any:
        raise TypeError("A key is not pickled. Make the provider anew where it is needed.")


#: For a server that asks for none.
NO_KEY = Secret("")


def hidden(api_key: str | None) -> Secret | None:
    """A key that was given in code, from here on out of sight; whoever was given it deletes his own name for it."""
    if api_key is None or isinstance(api_key, str):
        return None if api_key is None else Secret(api_key)
    raise ConfigurationError(f"api_key must be a string, not {type(api_key).__name__}.")


def check_base_url(base_url: str, *, has_key: bool = True) -> str:
    """`base_url` without a trailing slash.

    Args:
        base_url: The URL.
        has_key: Whether a key travels there.

    Raises:
        ConfigurationError: If a key would travel in the clear, or the URL is none or holds credentials.
    """
    url: httpx2.URL | None = None
    # Read by whoever sends, for others may take another part of it for the host.
    with suppress(ValueError, TypeError, httpx2.InvalidURL):
        url = httpx2.URL(base_url)
    if (
        url is None
        or url.scheme not in ("http", "https")
        or not url.host
        or (url.port or 0) > 65_535
        or any(c in "?#" or c.isspace() for c in base_url)
    ):
        raise ConfigurationError("base_url is not an http(s) URL, such as 'https://api.openai.com/v1'.")
    if url.userinfo:
        raise ConfigurationError("base_url holds a user name or a password. Pass the key as api_key instead.")
    if has_key and url.scheme == "http" and not _LOOPBACK.fullmatch(url.host):
        raise ConfigurationError(f"A key would travel unencrypted to {url.host}. Use https.")
    return base_url.rstrip("/")
