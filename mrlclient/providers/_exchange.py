"""What goes to a hosted provider, what comes back, and who carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mrlclient.errors import ConfigurationError, ProviderError, ProviderTimeoutError


@dataclass(frozen=True, slots=True)
class Request:
    """A POST.

    Attributes:
        body: The JSON object to send.
        max_response_bytes: Bytes of a good answer at most.
    """

    body: Mapping[str, Any] = field(repr=False)
    max_response_bytes: int


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer of any status. `body` is the bytes, or the object where an SDK had parsed them already."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | bytearray | Mapping[str, Any] = field(repr=False)


class Transport(Protocol):
    """Sends a request and returns the reply, whatever its status; raises only where there is none.

    Attributes:
        origin: Where requests go.
        fingerprint: What stands for the key.
    """

    origin: str
    fingerprint: str

    def send(self, request: Request, timeout: float | None = None) -> Reply:
        """Sends and waits, for `timeout` seconds at most where that is less than the transport's own."""
        ...

    async def asend(self, request: Request, timeout: float | None = None) -> Reply:
        """Sends and awaits, for `timeout` seconds at most where that is less than the transport's own."""
        ...

    def translate(self, failure: Exception) -> ProviderError | ConfigurationError:
        """Our error for whatever `send` raised."""
        ...

    def close(self) -> None:
        """Closes what is open outside event loops."""
        ...

    async def aclose(self) -> None:
        """Closes what is open, in the running event loop too."""
        ...


def shorter(own: float, given: float | None) -> float:
    """The seconds that one exchange may take: a transport's own bound, or a shorter one that it is given."""
    return own if given is None else min(own, given)


def timed_out(provider: str, seconds: float) -> ProviderTimeoutError:
    """The error for an exchange that was not over after so many seconds."""
    return ProviderTimeoutError(f"{provider} did not answer within {seconds:.3g} s", provider=provider, retryable=True)
