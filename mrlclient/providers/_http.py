"""The transport of the hosted providers, over httpx2: one bounded, deadline-kept POST; no redirects, no retries."""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Iterator, Mapping
from functools import cache
from typing import Any

import anyio
import anyio.lowlevel
import httpx2

from mrlclient.errors import (
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    ResponseContractError,
)
from mrlclient.providers._credentials import Bearer, Secret
from mrlclient.providers._exchange import Reply, Request

#: Bytes read of an error's body at most.
_MAX_ERROR_BODY = 64 * 1024


class HTTPTransport:
    """One URL, one key; a pool of connections for threads and one for each event loop.

    Args:
        url: Where to POST.
        key: The bearer key.
        provider: The provider's name, for the errors.
        timeout: Seconds that one request may take, from connecting to the last byte of the body.
    """

    def __init__(self, url: str, key: Secret, provider: str, timeout: float) -> None:
        self._url = url
        self.origin = url.removesuffix("/embeddings")
        self._auth = Bearer(key)
        self._provider = provider
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        self._loops: dict[object, tuple[httpx2.AsyncClient, AsyncGenerator[None]]] = {}
        self._pid = os.getpid()
        self._inherited: list[object] = []

    def send(self, request: Request) -> Reply:
        deadline = time.monotonic() + self._timeout
        timeouts = {"timeout": _Remaining(deadline)}
        with self._sync_client().stream("POST", self._url, content=_content(request), extensions=timeouts) as response:
            body = _Body(response, request, self._provider)
            # Unsized: a sized iter_raw waits until a chunk is full, and the deadline with it.
            for chunk in response.iter_raw():
                if body.add(chunk):
                    break
                if time.monotonic() > deadline:
                    raise self._timed_out()
            return body.reply()

    async def asend(self, request: Request) -> Reply:
        client = await self._async_client()
        try:
            with anyio.fail_after(self._timeout):
                async with client.stream("POST", self._url, content=_content(request)) as response:
                    body = _Body(response, request, self._provider)
                    async for chunk in response.aiter_raw():
                        if body.add(chunk):
                            break
                    return body.reply()
        except TimeoutError:
            pass
        raise self._timed_out()

    def _timed_out(self) -> ProviderTimeoutError:
        return ProviderTimeoutError(
            f"{self._provider} did not answer within {self._timeout:g} s", provider=self._provider, retryable=True
        )

    def translate(self, failure: Exception) -> ProviderError:
        name = self._provider
        if isinstance(failure, httpx2.TimeoutException):
            return self._timed_out()
        problem = type(failure).__name__
        if isinstance(failure, httpx2.ProxyError) and str(failure).startswith("407"):
            return ProviderConnectionError(f"{name}: the proxy asks for a login ({failure})", provider=name)
        if isinstance(failure, httpx2.ProtocolError):
            # Its text may quote the head of the answer, in which a server can say what it was sent.
            return ProviderConnectionError(
                f"{name}: {problem}: the answer was cut off, or is not HTTP", provider=name, retryable=True
            )
        if isinstance(failure, httpx2.TransportError) and not _is_certificate_failure(failure):
            # A transport error's text is about sockets, and holds neither key nor body.
            return ProviderConnectionError(f"{name}: {problem}: {failure}", provider=name, retryable=True)
        if isinstance(failure, httpx2.HTTPError):
            return ProviderConnectionError(f"{name}: {problem}: {failure}", provider=name)
        return ProviderError(f"{name} failed: {problem}", provider=name)

    def _leave_to_parent(self) -> None:
        """After a fork the parent's connections are forgotten, unclosed: on a shared one answers would be mixed up."""
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.Lock()
            self._inherited += [self._client, self._loops]
            self._client, self._loops = None, {}

    def _sync_client(self) -> httpx2.Client:
        self._leave_to_parent()
        with self._lock:
            if self._client is None:
                self._client = httpx2.Client(**self._settings())
            return self._client

    def _settings(self) -> dict[str, Any]:
        return {
            "auth": self._auth,
            "timeout": self._timeout,
            "follow_redirects": False,
            # A proxy would see the key of an unencrypted request, and a loopback address is not its business.
            "trust_env": not self._url.startswith("http:"),
            "verify": _tls_context(),
            "headers": {
                "Content-Type": "application/json",
                "Accept": "application/json",
                # Base64 hardly shrinks, and what is not compressed cannot be a bomb.
                "Accept-Encoding": "identity",
                "User-Agent": "mrlclient",
            },
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=32),
        }

    async def _async_client(self) -> httpx2.AsyncClient:
        """The running loop's own client: connections cannot move from loop to loop."""
        self._leave_to_parent()
        loop = anyio.lowlevel.current_token()
        if loop not in self._loops:
            client = httpx2.AsyncClient(**self._settings())
            for old in [old for old in self._loops if _is_closed(old)]:
                # A loop that was closed without shutdown_asyncgens: its sockets go with the last reference.
                del self._loops[old]
            keeper = _keep(weakref.ref(self), loop, client)
            self._loops[loop] = (client, keeper)
            await anext(keeper)
        return self._loops[loop][0]

    def __del__(self) -> None:
        # Not closed by the user: no reason to leave an open socket to the collector.
        if self._client is not None and self._pid == os.getpid():
            self._client.close()

    def close(self) -> None:
        self._leave_to_parent()
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None

    async def aclose(self) -> None:
        self.close()
        _, keeper = self._loops.get(anyio.lowlevel.current_token(), (None, None))
        if keeper is not None:
            await keeper.aclose()


async def _keep(owner: weakref.ref[HTTPTransport], loop: object, client: httpx2.AsyncClient) -> AsyncGenerator[None]:
    """Closes a loop's client when the loop ends, or when the transport is collected."""
    try:
        yield
    finally:
        transport = owner()
        if transport is not None:
            transport._loops.pop(loop, None)
        with anyio.CancelScope(shield=True):
            await client.aclose()


def _is_closed(token: object) -> bool:
    asked = getattr(getattr(token, "native_token", None), "is_closed", None)
    return asked is not None and asked()


class _Remaining(Mapping[str, float]):
    """The time left until a deadline, whichever phase of a request asks: each gets what the phases before it left."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def __getitem__(self, phase: str) -> float:
        return max(self._deadline - time.monotonic(), 0.001)

    def __iter__(self) -> Iterator[str]:
        return iter(("connect", "pool", "read", "write"))

    def __len__(self) -> int:
        return 4


class _Body:
    """Collects a body within its bound."""

    def __init__(self, response: httpx2.Response, request: Request, provider: str) -> None:
        self._response = response
        self._provider = provider
        self._is_error = response.status_code != 200
        self._limit = _MAX_ERROR_BODY if self._is_error else request.max_response_bytes
        self._chunks: list[bytes] = []
        self._size = 0
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            if self._is_error:
                # The status and the headers say enough; nothing is unpacked.
                self._limit = -1
                return
            raise self._unusable("it is compressed, though identity was asked for")

    def add(self, chunk: bytes) -> bool:
        """Takes a chunk; true where enough has been read: of an error's body the beginning will do."""
        if self._limit < 0:
            return True
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size <= self._limit:
            return False
        if self._is_error:
            return True
        raise self._unusable(f"it is longer than {self._limit} bytes")

    def reply(self) -> Reply:
        return Reply(self._response.status_code, self._response.headers, b"".join(self._chunks))

    def _unusable(self, problem: str) -> ResponseContractError:
        return ResponseContractError(
            f"The answer of {self._provider} cannot be used: {problem}",
            provider=self._provider,
            status=self._response.status_code,
            retryable=True,
        )


@cache
def _tls_context() -> ssl.SSLContext:
    """The certificates to trust, read once: it takes tens of milliseconds, and any number of clients may share it."""
    return httpx2.create_ssl_context()


def _content(request: Request) -> bytes:
    return json.dumps(request.body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _is_certificate_failure(failure: BaseException) -> bool:
    cause: BaseException | None = failure
    while cause is not None:
        if type(cause).__name__ == "SSLCertVerificationError":
            return True
        cause = cause.__cause__ or cause.__context__
    return False
