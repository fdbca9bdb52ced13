"""Long bodies, which are read in large pieces and put together in place."""

from __future__ import annotations

import random

import pytest

from mrlclient.errors import ProviderConnectionError, ResponseContractError
from mrlclient.providers._exchange import Reply
from tests.contract.exchanges import FACES, exchange
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
