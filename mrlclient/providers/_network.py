"""The way to a server: connections that keep a deadline, and leave nothing behind."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import anyio
import h11
import httpcore2
import httpx2

from mrlclient.providers._direct import Rest
from mrlclient.providers._environment import context_for, proxy_for
from mrlclient.providers._resolving import Resolver

#: Bytes handed to a socket at once, a TLS record: the clock is read in between.
_PIECE = 16 * 1024


class Deadline:
    """The end of an exchange. It stands where httpx2 takes seconds, and is asked anew before every read and write.

    httpx2 reads a timeout once for all the reads of a phase, so that a server which sends its headers byte by byte
    would get it again for each byte.
    """

    __slots__ = ("_at",)

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left.

        Raises:
            TimeoutError: If there are none.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def phases(self) -> dict[str, Any]:
        """The `timeout` extension of a request. Nobody waits for the pool: it has no bound."""
        return {"connect": self, "read": self, "write": self}


class DeadlineTransport(httpx2.HTTPTransport):
    """httpx2's transport for threads, for requests that carry a `Deadline`."""

    def __init__(self, url: str, limits: httpx2.Limits) -> None:
        super().__init__(verify=context_for(url), trust_env=False, proxy=proxy_for(url), limits=limits)
        # httpx2 has no argument for it; httpcore2, which it is built on, has.
        self._pool._network_backend = _DeadlineBackend(self._pool)


class ClosingTransport(httpx2.AsyncHTTPTransport):
    """httpx2's transport for event loops, which leaves no socket behind where connecting or closing is cancelled."""

    def __init__(self, url: str, limits: httpx2.Limits) -> None:
        super().__init__(verify=context_for(url), trust_env=False, proxy=proxy_for(url), limits=limits)
        self._pool._network_backend = _ClosingBackend(self._pool)

    async def aclose(self) -> None:
        interrupted: BaseException | None = None
        # httpcore2 stops at the first connection where a loop that ends cancels its tasks, and loses the others.
        for connection in self._pool.connections:
            try:
                await connection.aclose()
            except BaseException as error:
                interrupted = error
        await super().aclose()
        if interrupted is not None:
            raise interrupted


def _holds_an_answer(stream: _DeadlineStream | _ClosingStream) -> bool:
    """Whether an idle connection has read more than the answers that were asked for.

    It must not be used again: the rest would be taken for the answer to the next request (RFC 9112, 9.2). httpcore2
    keeps it, and drops only connections with something more to read on their sockets.
    """
    state = _h11_state(stream)
    # Where it cannot be looked at, a new connection is safe, and only slower.
    return state is None or bool(state.trailing_data[0])


def _h11_state(stream: _DeadlineStream | _ClosingStream) -> h11.Connection | None:
    """Where HTTP stands on a connection; None where that is not to be found."""
    for connection in stream.pool.connections:
        inner: Any = getattr(connection, "_connection", None)
        if getattr(inner, "_network_stream", None) is stream:
            state = getattr(inner, "_h11_state", None)
            return state if isinstance(state, h11.Connection) else None
    return None


class _DeadlineBackend(httpcore2.NetworkBackend):
    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self._sockets = httpcore2.SyncBackend()
        # One, for a pool has one server, or one proxy on the way to it.
        self._resolver = Resolver()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = self._addresses(host, port, timeout)
        for others, address in zip(reversed(range(len(addresses))), addresses, strict=True):
            try:
                # An address that nobody answers at leaves the others their share.
                seconds = timeout.left() / (others + 1)
                stream = self._sockets.connect_tcp(address, port, seconds, local_address, socket_options)
                return _DeadlineStream(stream, self.pool)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if not others:
                    raise
        raise httpcore2.ConnectError("the host has no address")

    def _addresses(self, host: str, port: int, timeout: Any) -> list[str]:
        problem = ""
        try:
            return self._resolver.addresses(host, port, timeout.left())
        except TimeoutError:
            raise
        except OSError as error:
            problem = str(error)
        raise httpcore2.ConnectError(problem)


class _Direct(NamedTuple):
    """A body that is to be read directly, and where HTTP stands on its connection."""

    rest: Rest
    state: h11.Connection


class _Head:
    """The head of a request, which waits for its body: httpcore2 hands them over one by one, and each that goes out by
    itself is a call of the system and a packet.
    """

    def __init__(self) -> None:
        self._held = b""
        self.direct: _Direct | None = None

    def goes_out(self, buffer: bytes) -> bytes:
        """What is to be sent now that this is handed over; nothing where it is held."""
        if not self._held and buffer.endswith(b"\r\n\r\n"):
            self._held = buffer
            return b""
        return self.rest() + buffer

    def rest(self) -> bytes:
        """What was held."""
        held, self._held = self._held, b""
        return held


class _DeadlineStream(_Head, httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, pool: Any) -> None:
        super().__init__()
        self._stream = stream
        self.pool = pool

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        if self._held:
            self._send(self.rest(), timeout)
        if (direct := self.direct) is not None:
            self.direct = None
            connection = self._stream.get_extra_info("socket")
            # Not where it is TLS in TLS, through a proxy: there the socket holds what is not decrypted yet.
            if self._stream.get_extra_info("ssl_object") is getattr(connection, "_sslobj", None):
                direct.rest.fill(connection, direct.state, timeout.left)
        return self._stream.read(max_bytes, timeout.left())

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        self._send(self.goes_out(buffer), timeout)

    def _send(self, data: bytes, timeout: Any) -> None:
        for start in range(0, len(data), _PIECE):
            self._stream.write(data[start : start + _PIECE], timeout.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> httpcore2.NetworkStream:
        # OpenSSL's own loop keeps these seconds for the whole handshake. It does not in a tunnel through a proxy that
        # is itself reached over TLS: there each read of the inner handshake has them.
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, timeout.left()), self.pool)

    def get_extra_info(self, info: str) -> Any:
        # Asked of every idle connection before it is used again, while nobody else can take it.
        return (info == "is_readable" and _holds_an_answer(self)) or self._stream.get_extra_info(info)


class _ClosingBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self._sockets: Any = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        stream = await self._sockets.connect_tcp(host, port, timeout, local_address, socket_options)
        return _ClosingStream(stream, self.pool)


class _ClosingStream(_Head, httpcore2.AsyncNetworkStream):
    def __init__(self, stream: httpcore2.AsyncNetworkStream, pool: Any) -> None:
        super().__init__()
        self._stream = stream
        self.pool = pool

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._held:
            await self._stream.write(self.rest(), timeout)
        if (direct := self.direct) is not None:
            self.direct = None
            await direct.rest.afill(self._stream, direct.state)
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if data := self.goes_out(buffer):
            await self._stream.write(data, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return _ClosingStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self.pool)
        except BaseException:
            # httpcore2 closes it after an error, but not after a cancellation.
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return (info == "is_readable" and _holds_an_answer(self)) or self._stream.get_extra_info(info)


def read_directly(response: httpx2.Response, rest: Rest) -> None:
    """What is missing of a body is read straight into its place, when more is asked of the response.

    Where that cannot be, nothing is filled, and it comes piece by piece.
    """
    stream = response.extensions.get("network_stream")
    if isinstance(stream, _DeadlineStream | _ClosingStream):
        state = _h11_state(stream)
        if state is not None and rest.is_awaited(state):
            stream.direct = _Direct(rest, state)
