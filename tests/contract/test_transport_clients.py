"""What holds when an official client sends, and what cannot: each line of the table in the how-to page."""

from __future__ import annotations

import gzip
import logging
import threading
import time

import anyio
import openai
import pytest
import voyageai

from mrlclient import ConfigurationError, OpenAI, ProviderTimeoutError, ResponseContractError, Voyage
from mrlclient.errors import MRLError
from mrlclient.providers._exchange import Request
from tests.contract.raw_server import raw_server, read_request

KEY, TEXT = "sk-canary-key", "canary text"
REQUEST = Request({"model": "m", "input": [TEXT], "encoding_format": "base64"}, 1000)

#: The client, and how it is called.
OPENAI = [("openai", "sync"), ("openai", "thread"), ("async openai", "asyncio"), ("async openai", "trio")]
VOYAGE = [("voyage", "sync"), ("voyage", "thread"), ("async voyage", "asyncio")]
ASYNC = [("async openai", "asyncio"), ("async openai", "trio"), ("async voyage", "asyncio")]


def make(kind, url):
    if kind.endswith("openai"):
        client = (openai.AsyncOpenAI if kind.startswith("async") else openai.OpenAI)(api_key=KEY, base_url=url)
        return client, OpenAI("text-embedding-3-small", client=client, timeout=30.0)
    client = (voyageai.AsyncClient if kind.startswith("async") else voyageai.Client)(KEY, base_url=url)
    return client, Voyage("voyage-4", client=client, timeout=30.0)


def exchange(kind, face, server, seconds=0.2):
    """The reply or our error, and how long it took."""
    client, provider = make(kind, f"http://127.0.0.1:{server.port}")
    started = time.monotonic()

    def ours(failure):
        return failure if isinstance(failure, MRLError) else provider.translate(failure)

    async def main():
        try:
            return await provider.asend(REQUEST, seconds)
        except Exception as failure:
            return ours(failure)
        finally:
            if isinstance(client, openai.AsyncOpenAI):
                await client.close()

    if face != "sync":
        outcome = anyio.run(main, backend="asyncio" if face == "thread" else face)
    else:
        try:
            outcome = provider.send(REQUEST, seconds)
        except Exception as failure:
            outcome = ours(failure)
    if isinstance(client, openai.OpenAI):
        client.close()
    assert KEY not in str(outcome)
    assert TEXT not in str(outcome)
    return outcome, time.monotonic() - started


def slow_headers(server, connection):
    read_request(connection)
    server.drip(connection, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", pause=0.03)


def slow_body(server, connection):
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n")
    server.drip(connection, b'{"data": []' + b" " * 28 + b"}", pause=0.03)


def slow_error(server, connection):
    read_request(connection)
    connection.sendall(b"HTTP/1.1 500 No\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n")
    server.drip(connection, b'{"error": {}' + b" " * 27 + b"}", pause=0.03)


def answering(status, body, headers=""):
    def handle(server, connection):
        read_request(connection)
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        connection.sendall(head.encode() + body)

    return handle


LONG = b'{"data": [], "more": "' + b"x" * 1_000_000 + b'"}'
EMPTY = b'{"data": []}'
GZIP = "content-encoding: gzip\r\n"


@pytest.mark.parametrize(("kind", "face"), ASYNC)
@pytest.mark.parametrize("handle", [slow_headers, slow_body, slow_error])
def test_an_async_client_keeps_the_deadline(handle, kind, face):
    with raw_server(handle) as server:
        error, seconds = exchange(kind, face, server)
    assert type(error) is ProviderTimeoutError
    assert 0.15 < seconds < 1.0


@pytest.mark.parametrize(("kind", "face"), OPENAI)
def test_openai_keeps_the_deadline_of_a_good_answers_body(kind, face):
    with raw_server(slow_body) as server:
        error, seconds = exchange(kind, face, server)
    assert type(error) is ProviderTimeoutError
    assert 0.15 < seconds < 1.0


@pytest.mark.parametrize(
    ("handle", "kind", "status"),
    [
        (slow_headers, "openai", None),
        (slow_error, "openai", 500),
        (slow_headers, "voyage", 200),
        (slow_error, "voyage", 500),
        (slow_body, "voyage", 200),
    ],
)
def test_a_sync_client_counts_each_read_anew(handle, kind, status):
    """What the page says cannot be guarded: 0.2 s were given, the server takes 1.2 s, and is waited for."""
    with raw_server(handle) as server:
        outcome, seconds = exchange(kind, "sync", server)
    assert seconds > 1.0
    assert outcome.status == status
    # Where the deadline has passed when the body begins, the body is not waited for.
    assert isinstance(outcome, ProviderTimeoutError) == (status is None)


@pytest.mark.parametrize(("kind", "face"), OPENAI)
def test_openai_keeps_the_bound_of_a_good_answer(kind, face):
    gone = threading.Event()

    def endless(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        except OSError:
            gone.set()

    with raw_server(endless) as server:
        error, _ = exchange(kind, face, server, seconds=20)
        assert gone.wait(5)
    assert type(error) is ResponseContractError
    assert "longer than 1000 bytes" in str(error)


@pytest.mark.parametrize(("kind", "face"), OPENAI)
def test_openai_unpacks_no_good_answer(kind, face):
    with raw_server(answering(200, gzip.compress(LONG), GZIP)) as server:
        error, _ = exchange(kind, face, server, seconds=5)
    assert type(error) is ResponseContractError
    assert "compressed" in str(error)


@pytest.mark.parametrize(("kind", "face"), OPENAI[:1] + OPENAI[2:3] + VOYAGE)
@pytest.mark.parametrize(("body", "headers"), [(LONG, ""), (gzip.compress(LONG), GZIP)])
def test_what_has_no_bound(body, headers, kind, face):
    """What the page says cannot be guarded: an error's body, and with voyageai any, whole and unpacked."""
    with raw_server(answering(400 if "openai" in kind else 200, body, headers)) as server:
        reply, _ = exchange(kind, face, server, seconds=5)
    size = len(reply.body) if isinstance(reply.body, bytes) else len(reply.body["more"])
    assert size >= 1_000_000


@pytest.mark.parametrize(("kind", "face"), OPENAI + VOYAGE)
def test_redirects(kind, face):
    """Through openai they are refused. voyageai follows them, and takes the texts along; the key it does not."""
    seen = []

    def target(server, connection):
        seen.append(b"".join(read_request(connection)))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n" + EMPTY)

    with raw_server(target) as other:
        moved = f"location: http://localhost:{other.port}/\r\n"
        with raw_server(answering(307, b"", moved)) as server:
            reply, _ = exchange(kind, face, server, seconds=5)
    if kind.endswith("openai"):
        assert reply.status == 307
        assert seen == []
    else:
        (request,) = seen
        assert TEXT.encode() in request
        assert KEY.encode() not in request


@pytest.mark.parametrize(("kind", "face"), OPENAI + VOYAGE)
def test_what_the_clients_log(kind, face, caplog):
    """At DEBUG voyageai logs the texts, as the page says. Nobody logs the key."""
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "voyage", "httpx2", "httpcore2", "urllib3"):
        caplog.set_level(logging.DEBUG, logger=name)
    with raw_server(answering(200, EMPTY)) as server:
        reply, _ = exchange(kind, face, server, seconds=5)
    assert reply.status == 200
    who = {record.name for record in caplog.records if TEXT in record.getMessage()}
    assert who == ({"voyage"} if kind.endswith("voyage") else set())
    assert caplog.records
    assert not any(KEY in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(("kind", "face"), OPENAI)
def test_a_client_that_was_closed_before(kind, face):
    client, provider = make(kind, "http://127.0.0.1:9")
    if kind.startswith("async"):
        anyio.run(client.close)
    else:
        client.close()

    def send():
        if face == "sync":
            return provider.send(REQUEST)
        return anyio.run(provider.asend, REQUEST, backend="asyncio" if face == "thread" else face)

    with pytest.raises(ConfigurationError, match="The client is closed"):
        send()
