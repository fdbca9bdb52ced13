"""Long bodies, which go from the socket straight to their place."""

from __future__ import annotations

import random
import ssl

import anyio
import pytest
import trustme

from mrlclient.errors import ProviderConnectionError, ResponseContractError
from mrlclient.providers import _body
from mrlclient.providers._exchange import Reply, Request
from tests.contract.exchanges import FACES, exchange, transport_to
from tests.contract.raw_server import raw_server, read_request

LONG = random.Random(0).randbytes(5 * 2**20 + 7)


def answers(head, *pieces):
    def handle(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        for piece in pieces:
            connection.sendall(piece)

    return handle


def length(count):
    return b"content-length: %d" % count


def chunked(body, size):
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]


def outcome_of(handle, face, most=2**23):
    with raw_server(handle) as server:
        return exchange(f"http://127.0.0.1:{server.port}", face, most=most)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("size", [1, 65_536, 65_537, 2**20, len(LONG)])
def test_a_body_of_any_length_comes_as_it_was_sent(size, face):
    body = LONG[:size]
    for handle in (answers(length(size), body), answers(b"transfer-encoding: chunked", *chunked(body, 50_000))):
        reply = outcome_of(handle, face)
        assert isinstance(reply, Reply), reply
        assert reply.body[:] == body


@pytest.mark.parametrize("face", FACES)
def test_a_long_body_that_ends_too_soon(face):
    assert isinstance(outcome_of(answers(length(len(LONG)), LONG[:-1]), face), ProviderConnectionError)


@pytest.mark.parametrize("face", FACES)
def test_a_body_longer_than_its_bound(face):
    for handle in (answers(length(len(LONG)), LONG), answers(b"transfer-encoding: chunked", *chunked(LONG, 50_000))):
        assert isinstance(outcome_of(handle, face, most=len(LONG) - 1), ResponseContractError)


@pytest.fixture(params=["http", "https"])
def serving(request, tmp_path, monkeypatch):
    """Runs a server with or without TLS: its address, and the server."""
    context = None
    if request.param == "https":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return lambda handle: (raw_server(handle, context), f"{request.param}://localhost")


def replies(url, face, count):
    """Answers to so many requests, one after the other, over one transport."""
    transport, request = transport_to(url), Request({"input": ["text"]}, 2**23)

    async def main():
        try:
            return [bytes((await transport.asend(request)).body) for _ in range(count)]
        finally:
            await transport.aclose()

    if face != "sync":
        return anyio.run(main, backend=face)
    try:
        return [bytes(transport.send(request).body) for _ in range(count)]
    finally:
        transport.close()


@pytest.mark.parametrize("face", FACES)
def test_a_long_body_is_read_directly_and_its_connection_used_again(face, serving, monkeypatch):
    rests = []
    rest = _body.Body.rest

    def watched(body):
        rests.append(rest(body))
        return rests[-1]

    monkeypatch.setattr(_body.Body, "rest", watched)

    def handle(server, connection):
        while read_request(connection)[0]:
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + length(len(LONG)) + b"\r\n\r\n" + LONG)

    running, url = serving(handle)
    with running as server:
        assert replies(f"{url}:{server.port}", face, 3) == [LONG] * 3
        assert server.accepted == 1
    # All but what came along with the head, and the last byte.
    filled = [rest.filled for rest in rests if rest is not None]
    assert len(filled) == 3
    assert min(filled) >= len(LONG) - 70_000


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("size", [200_000, 1_000_000])
def test_what_comes_behind_a_long_body_answers_nobody(size, face, serving):
    """An answer nobody asked for, glued to one that was asked for."""
    right, wrong = LONG[:size], b"x" * size
    turns = iter(range(3))

    def handle(server, connection):
        read_request(connection)
        answer = b"HTTP/1.1 200 OK\r\n" + length(size) + b"\r\n\r\n"
        connection.sendall(answer + right + (answer + wrong if next(turns) == 0 else b""))
        # It stays open: nothing but the rest itself tells that it must not be used again.
        read_request(connection)

    running, url = serving(handle)
    with running as server:
        assert replies(f"{url}:{server.port}", face, 2) == [right, right]
        assert server.accepted == 2


@pytest.mark.parametrize("face", FACES)
def test_a_long_body_whose_connection_breaks(face, serving):
    def handle(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length(len(LONG)) + b"\r\n\r\n" + LONG[: 2**20])

    running, url = serving(handle)
    with running as server:
        failed = exchange(f"{url}:{server.port}", face, most=2**23)
    assert isinstance(failed, ProviderConnectionError)
    assert failed.retryable
