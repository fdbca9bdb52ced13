"""The transport of the hosted providers, over httpx2: one bounded, deadline-kept POST; no redirects, no retries."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any, cast

import anyio
import anyio.lowlevel
import httpx2

from mrlclient._signals import raised_by_handler
from mrlclient.errors import ConfigurationError, ProviderConnectionError, ProviderError
from mrlclient.limits import fingerprint_of
from mrlclient.providers._body import Body, collect
from mrlclient.providers._credentials import Secret
from mrlclient.providers._exchange import Reply, Request, shorter, timed_out
from mrlclient.providers._network import ClosingTransport, Deadline, DeadlineTransport, read_directly

#: As many connections as there are requests under way; all of them are kept for the next ones. Where servers publish
#: how long they keep idle ones it is 60 s or more (AWS load balancers, nginx): after that a request may meet a close.
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=55.0)

_TO_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_HEADERS = (
    (b"Content-Type", b"application/json"),
    (b"Accept", b"application/json"),
    # Base64 hardly shrinks, and what is not compressed cannot be a bomb.
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", b"mrlclient"),
)


@dataclass(eq=False, slots=True)
class _LoopPool:
    """An event loop's pool, the generator that closes it, and how many requests use it."""

    pool: ClosingTransport
    keeper: AsyncGenerator[None]
    users: int = 0


class HTTPTransport:
    """One URL, one key; a pool of connections for threads and one for each event loop.

    Requests are handed to httpx2's transports, below its clients: redirects, cookies and hooks are not wanted, and an
    address that is always the same need not be parsed each time.

    Once closed it sends nothing more; a pool that is in use is closed by its last request.

    Args:
        url: Where to POST.
        key: The bearer key.
        provider: The provider's name, for the errors.
        timeout: Seconds that one request may take, from connecting to the last byte of the body.
    """

    def __init__(self, url: str, key: Secret, provider: str, timeout: float) -> None:
        self._url = httpx2.URL(url)
        self._headers = ((b"Host", self._url.netloc), *_HEADERS)
        self.origin = url.removesuffix("/embeddings")
        self.fingerprint = fingerprint_of(self.origin, key.reveal())
        self._key = key
        self._provider = provider
        self._timeout = timeout
        # A signal handler may close it, in the very thread that holds the lock.
        self._lock = threading.RLock()
        self._pool: DeadlineTransport | None = None
        self._users = 0
        self._loops: dict[object, _LoopPool] = {}
        self._closed = False
        self._pid = os.getpid()
        self._inherited: list[object] = []

    def send(self, request: Request, timeout: float | None = None) -> Reply:
        seconds = shorter(self._timeout, timeout)
        ended: list[Exception] = []
        try:
            pool = self._enter()
            try:
                with closing(pool.handle_request(self._post(request, Deadline(seconds).phases()))) as response:
                    body = Body(response.status_code, _mapping(response), request, self._provider)
                    for chunk in cast("httpx2.SyncByteStream", response.stream):
                        if body.add(chunk):
                            break
                        if (rest := body.rest()) is not None:
                            read_directly(response, rest)
                    return body.reply()
            finally:
                self._leave()
        except (TimeoutError, httpx2.TimeoutException) as error:
            ended.append(error)
        raise raised_by_handler(ended.pop()) or timed_out(self._provider, seconds)

    async def asend(self, request: Request, timeout: float | None = None) -> Reply:
        seconds = shorter(self._timeout, timeout)
        try:
            with anyio.fail_after(seconds):
                async with (
                    self._loop_pool() as pool,
                    aclosing(await pool.handle_async_request(self._post(request, {}))) as response,
                ):
                    body = Body(response.status_code, _mapping(response), request, self._provider)
                    await collect(response, cast("httpx2.AsyncByteStream", response.stream), body)
                    return body.reply()
        except TimeoutError:
            pass
        raise timed_out(self._provider, seconds)

    def _post(self, request: Request, timeout: dict[str, Any]) -> httpx2.Request:
        content = _TO_JSON(request.body).encode("utf-8")
        headers = [*self._headers, (b"Content-Length", b"%d" % len(content)), *self._key.headers()]
        stream = httpx2.ByteStream(content)
        return httpx2.Request("POST", self._url, headers=headers, stream=stream, extensions={"timeout": timeout})

    def translate(self, failure: Exception) -> ProviderError:
        name = self._provider
        # Which host, for the address may be one that somebody configured. It holds no login.
        where, problem = f"{name} at {self._url.netloc.decode()}", type(failure).__name__
        if isinstance(failure, httpx2.ProxyError) and str(failure).startswith("407"):
            return ProviderConnectionError(f"{name}: the proxy asks for a login ({failure})", provider=name)
        if isinstance(failure, httpx2.ProtocolError):
            # Its text may quote the head of the answer, in which a server can say what it was sent.
            return ProviderConnectionError(
                f"{where}: {problem}: the answer was cut off, or is not HTTP", provider=name, retryable=True
            )
        if isinstance(failure, httpx2.TransportError | OSError) and not _is_certificate_failure(failure):
            # A transport error's text is about sockets, and holds neither key nor body.
            return ProviderConnectionError(f"{where}: {problem}: {failure}", provider=name, retryable=True)
        if isinstance(failure, httpx2.HTTPError):
            return ProviderConnectionError(f"{where}: {problem}: {failure}", provider=name)
        return ProviderError(f"{name} failed: {problem}", provider=name)

    def _leave_to_parent(self) -> None:
        """After a fork the parent's connections are forgotten, unclosed: on a shared one answers would be mixed up."""
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.RLock()
            self._inherited += [self._pool, self._loops]
            self._pool, self._users, self._loops = None, 0, {}

    def _enter(self) -> DeadlineTransport:
        """The pool of all threads, for one request, which leaves it in the end."""
        self._leave_to_parent()
        with self._lock:
            self._check_open()
            if self._pool is None:
                self._pool = DeadlineTransport(str(self._url), _LIMITS)
            self._users += 1
            return self._pool

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            self._close_unused()

    @asynccontextmanager
    async def _loop_pool(self) -> AsyncIterator[ClosingTransport]:
        """The running loop's own pool, for one request: connections cannot move from loop to loop."""
        self._leave_to_parent()
        self._check_open()
        loop = anyio.lowlevel.current_token()
        if loop not in self._loops:
            pool = ClosingTransport(str(self._url), _LIMITS)
            for old in [old for old in list(self._loops) if _is_closed(old)]:
                # A loop that was closed without shutdown_asyncgens: its sockets go with the last reference.
                self._loops.pop(old, None)  # another loop's thread may do the same
            kept = self._loops[loop] = _LoopPool(pool, _keep(weakref.ref(self), loop, pool))
            await anext(kept.keeper)
        kept = self._loops[loop]
        kept.users += 1
        try:
            yield kept.pool
        finally:
            kept.users -= 1
            if self._closed and not kept.users:
                await kept.keeper.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError("This provider is closed. Make a new one.")

    def __del__(self) -> None:
        # Not closed by the user: no reason to leave an open socket to the collector.
        if self._pool is not None and self._pid == os.getpid():
            self._pool.close()

    def close(self) -> None:
        self._leave_to_parent()
        with self._lock:
            self._closed = True
            self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._users and self._pool is not None:
            self._pool.close()
            self._pool = None

    async def aclose(self) -> None:
        self.close()
        kept = self._loops.get(anyio.lowlevel.current_token())
        if kept is not None and not kept.users:
            await kept.keeper.aclose()


async def _keep(owner: weakref.ref[HTTPTransport], loop: object, pool: ClosingTransport) -> AsyncGenerator[None]:
    """Closes a loop's pool when the loop ends, or when the transport is collected."""
    try:
        yield
    finally:
        transport = owner()
        if transport is not None:
            transport._loops.pop(loop, None)
        with anyio.CancelScope(shield=True):
            await pool.aclose()


def _is_closed(token: object) -> bool:
    asked = getattr(getattr(token, "native_token", None), "is_closed", None)
    return asked is not None and asked()


def _mapping(response: httpx2.Response) -> dict[str, str]:
    """The headers, with names in lower case: many are looked for, and few are there."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _is_certificate_failure(failure: BaseException) -> bool:
    cause: BaseException | None = failure
    while cause is not None:
        if type(cause).__name__ == "SSLCertVerificationError":
            return True
        cause = cause.__cause__ or cause.__context__
    return False
