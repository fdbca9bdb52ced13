"""No exchange outlives its seconds: a provider's own, or the fewer that a flow gives it."""

from __future__ import annotations

import gc
import socket
import time
from contextlib import ExitStack

import anyio
import openai
import pytest
import voyageai

from mrlclient import OpenAI, ProviderTimeoutError, Voyage
from mrlclient.dimensions import resolve
from mrlclient.drivers import AsyncDriver, SyncDriver
from mrlclient.operations import Send
from mrlclient.plan import make_plan
from mrlclient.providers._credentials import Secret
from mrlclient.providers._exchange import Request
from mrlclient.providers._http import HTTPTransport
from mrlclient.testing.emulator import Fault
from tests.contract.raw_server import raw_server, read_request

FACES = ["sync", "asyncio", "trio"]


def own(emulator):
    return OpenAI(
        "text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=30.0
    )


def over_openai(emulator):
    client = openai.OpenAI(api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    return OpenAI("text-embedding-3-small", client=client, timeout=30.0)


def over_async_openai(emulator):
    client = openai.AsyncOpenAI(api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    return OpenAI("text-embedding-3-small", client=client, timeout=30.0)


def over_voyage(emulator):
    client = voyageai.Client(emulator.voyage_key, base_url=emulator.voyage_base_url)
    return Voyage("voyage-4", client=client, timeout=30.0)


def over_async_voyage(emulator):
    client = voyageai.AsyncClient(emulator.voyage_key, base_url=emulator.voyage_base_url)
    return Voyage("voyage-4", client=client, timeout=30.0)


def exchange(provider, timeout):
    (batch,) = make_plan(provider.spec, provider.packing, ["a"], resolve(provider.spec, None)).batches()
    try:
        reply = yield Send(provider, provider.encode(batch), timeout)
        return provider.decode(reply, batch)
    except Exception as error:
        return provider.translate(error) if not isinstance(error, ProviderTimeoutError) else error


def outcome(provider, face, timeout):
    """What comes of one sending, and how long it took."""
    started = time.monotonic()
    if face == "sync":
        answer = SyncDriver().run(exchange(provider, timeout))
        provider.close()
        return answer, time.monotonic() - started

    async def main():
        answer = await AsyncDriver().run(exchange(provider, timeout))
        await provider.aclose()
        client = getattr(provider._transport, "_client", None)
        if isinstance(client, openai.AsyncOpenAI):
            await client.close()
        return answer

    return anyio.run(main, backend=face), time.monotonic() - started


@pytest.mark.parametrize(
    ("make", "face"),
    [
        (own, "sync"),
        (own, "asyncio"),
        (own, "trio"),
        (over_openai, "sync"),
        (over_openai, "asyncio"),
        (over_async_openai, "asyncio"),
        (over_async_openai, "trio"),
        (over_voyage, "sync"),
        (over_async_voyage, "asyncio"),
    ],
)
def test_fewer_seconds_than_the_providers_own(make, face, emulator):
    emulator.faults.append(Fault(delay=3.0))
    error, seconds = outcome(make(emulator), face, 0.3)
    assert type(error) is ProviderTimeoutError
    assert error.retryable
    assert seconds < 1.5


@pytest.mark.parametrize("face", FACES)
def test_more_seconds_than_the_providers_own(face, emulator):
    emulator.faults.append(Fault(delay=3.0))
    provider = OpenAI(
        "text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=0.3
    )
    error, seconds = outcome(provider, face, 30.0)
    assert type(error) is ProviderTimeoutError
    assert seconds < 1.5


def slow_headers(server, connection):
    read_request(connection)
    server.drip(connection, b"HTTP/1.1 200 OK\r\nx-slow: " + b"x" * 1000)


def informational_flood(server, connection):
    read_request(connection)
    while not server.stopped.is_set():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def slow_informational(server, connection):
    read_request(connection)
    while not server.stopped.wait(0.05):
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")


def slow_body(server, connection):
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    server.drip(connection, b" " * 1000)


def slow_long_body(server, connection):
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b" " * 200_000)
    server.drip(connection, b" " * 800_000)


def slow_chunk_header(server, connection):
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n")
    server.drip(connection, b"1;" + b"x" * 1000)


def slow_trailers(server, connection):
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
    server.drip(connection, b"x-trailer: " + b"x" * 1000)


def slow_error(server, connection):
    read_request(connection)
    connection.sendall(b"HTTP/1.1 500 No\r\ncontent-length: 1000\r\n\r\n")
    server.drip(connection, b" " * 1000)


def never_reads(server, connection):
    server.stopped.wait(10)


def reads_slowly(server, connection):
    while not server.stopped.wait(0.02):
        connection.recv(4096)


def seconds_until_timeout(url, face, body="a"):
    """How long an exchange takes that is given 0.2 s."""
    transport = HTTPTransport(url + "/embeddings", Secret("sk-canary"), "acme", timeout=30.0)
    request = Request({"input": [body]}, 1_000_000)
    started = time.monotonic()
    if face == "sync":
        with pytest.raises(ProviderTimeoutError, match=r"acme did not answer within 0\.2 s"):
            transport.send(request, 0.2)
        transport.close()
    else:

        async def main():
            with pytest.raises(ProviderTimeoutError, match=r"acme did not answer within 0\.2 s"):
                await transport.asend(request, 0.2)
            await transport.aclose()

        anyio.run(main, backend=face)
    seconds = time.monotonic() - started
    # A socket that is left behind shows now, as a warning, which is an error.
    gc.collect()
    return seconds


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    "handle",
    [
        slow_headers,
        informational_flood,
        slow_informational,
        slow_body,
        slow_long_body,
        slow_chunk_header,
        slow_trailers,
        slow_error,
        never_reads,
    ],
)
def test_a_server_in_no_hurry(handle, face):
    with raw_server(handle) as server:
        assert 0.15 < seconds_until_timeout(f"http://127.0.0.1:{server.port}", face) < 1.5


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("handle", [never_reads, reads_slowly])
def test_a_server_that_takes_a_long_request_slowly(handle, face):
    with raw_server(handle) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert 0.15 < seconds_until_timeout(url, face, body="x" * 20_000_000) < 1.5


def slow_handshake(server, connection):
    # The header of a record of 4096 bytes, and then the record.
    server.drip(connection, b"\x16\x03\x03\x10\x00" + b"\x02" * 1000)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("handle", [never_reads, slow_handshake])
def test_a_slow_tls_handshake(handle, face):
    with raw_server(handle) as server:
        assert 0.15 < seconds_until_timeout(f"https://127.0.0.1:{server.port}", face) < 1.5


@pytest.mark.parametrize("face", FACES)
def test_a_slow_proxy(face, monkeypatch):
    def slow_connect(server, connection):
        read_request(connection)
        server.drip(connection, b"HTTP/1.1 200 OK\r\nx-slow: " + b"x" * 1000)

    with raw_server(slow_connect) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
        assert 0.15 < seconds_until_timeout("https://mrlclient.invalid", face) < 1.5
        assert server.accepted == 1


@pytest.mark.parametrize("face", FACES)
def test_a_host_that_does_not_take_connections(face):
    """Its backlog is full, so that the system drops what else arrives."""
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        assert 0.15 < seconds_until_timeout(url, face) < 1.5


@pytest.mark.parametrize("face", FACES)
def test_the_next_address_of_a_host_is_tried(face, emulator):
    """The emulator listens on 127.0.0.1 only; on most systems localhost is ::1 too, and first."""
    url = emulator.openai_base_url.replace("127.0.0.1", "localhost")
    answer, _ = outcome(OpenAI("text-embedding-3-small", api_key=emulator.openai_key, base_url=url), face, None)
    assert len(answer.vectors) == 1
