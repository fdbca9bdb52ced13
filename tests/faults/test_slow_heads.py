"""N4: servers and proxies that take their time before there is a whole head."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mrlclient.testing import Emulator
from tests.faults.matrix import Site, check, named, openai_at
from tests.faults.server import Connection, answer_well, right_answer, serving
from tests.faults.test_slowness import PAUSE, TIMEOUT, late, silent, unread
from tests.faults.tls import server_context, trusted


def slow_head(connection: Connection) -> None:
    connection.send_slowly(right_answer(connection.read_request()), PAUSE)


def forever_soon(connection: Connection) -> None:
    """One 103 after the other, and no answer."""
    connection.read_request()
    while True:
        connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        connection.wait(PAUSE)


@contextmanager
def silent_handshake(_: Emulator) -> Iterator[Site]:
    with trusted(), serving(unread) as server:
        provider = openai_at(server.url.replace("http:", "https:"), TIMEOUT)
        yield Site(provider=provider, requests=lambda: server.connections)


@contextmanager
def silent_proxy(_: Emulator) -> Iterator[Site]:
    with (
        serving(answer_well, server_context("good")) as server,
        serving(silent) as proxy,
        trusted(HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}"),
    ):
        yield Site(provider=openai_at(server.url, TIMEOUT), requests=lambda: proxy.connections)


CASES = [
    late("no handshake", silent_handshake, bare=False),
    late("a byte of the head at a time", slow_head),
    late("one 103 after the other", forever_soon),
    late("a proxy that says nothing", silent_proxy, bare=False),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)
    # A socket that was left open would be a warning now, and so an error here, not in some later test.
    gc.collect()
