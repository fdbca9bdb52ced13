"""N4: servers that take their time, wherever they take it. An attempt ends with its timeout, not with its last byte."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mrlclient import ProviderTimeoutError
from mrlclient.testing import Emulator
from tests.faults.matrix import TEXTS, Case, Injection, Site, check, named, of_script, openai_at
from tests.faults.server import Connection, Script, answer_well, http, right_answer

TIMEOUT = 0.25
#: What a busy machine adds to that. Whatever hangs here hangs for much longer.
GRACE = 1.0
PAUSE = 0.05


def silent(connection: Connection) -> None:
    connection.read_request()
    connection.wait()


def unread(connection: Connection) -> None:
    """The request is never read: a long one cannot be written."""
    connection.wait()


def slow_body(connection: Connection) -> None:
    head, _, body = right_answer(connection.read_request()).partition(b"\r\n\r\n")
    connection.send(head + b"\r\n\r\n")
    connection.send_slowly(body, PAUSE)


def slow_chunks(connection: Connection) -> None:
    """Each chunk is one blank, which JSON allows, so that no read is ever late."""
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        connection.send(b"1\r\n \r\n")
        connection.wait(PAUSE)


def stalled(share: float) -> Script:
    def script(connection: Connection) -> None:
        answer = right_answer(connection.read_request())
        connection.send(answer[: int(len(answer) * share)])
        connection.wait()

    return script


def slow_error(connection: Connection) -> None:
    connection.read_request()
    connection.send(http(b"", 500, "content-length: 1000\r\n", length=False))
    connection.send_slowly(b" " * 1000, PAUSE)


@contextmanager
def full_queue(_: Emulator) -> Iterator[Site]:
    """A server that takes no more connections: even connecting takes for ever."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
        yield Site(provider=openai_at(f"http://127.0.0.1:{server.getsockname()[1]}/v1", TIMEOUT), requests=None)
        for sock in waiting:
            sock.close()


def late(
    name: str,
    inject: Injection | Script,
    *,
    texts: tuple[str, ...] = TEXTS,
    bare: bool = True,
    timeout: float = TIMEOUT,
) -> Case:
    return Case(
        row="N4",
        name=name,
        inject=of_script(inject, timeout=timeout) if bare else inject,
        expects=ProviderTimeoutError,
        attempts=1,
        max_attempts=1,
        within=timeout + GRACE,
        texts=texts,
    )


CASES = [
    late("no answer", silent),
    late("a byte of the body at a time", slow_body),
    late("a blank at a time, for ever", slow_chunks),
    late("a byte of an error at a time", slow_error),
    late("no body", stalled(0.02)),
    late("half of the body", stalled(0.5)),
    late("all but the last byte", stalled(0.9999)),
    # To write the JSON of so long a text takes its time too.
    late("a request that nobody reads", unread, texts=("word " * 4_000_000,), timeout=1.0),
    late("no room for a connection", full_queue, bare=False),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)
    # A socket that was left open would be a warning now, and so an error here, not in some later test.
    gc.collect()


def test_each_attempt_has_its_own_timeout(face, emulator):
    """And a slow one that passes costs one more."""
    lasting = Case(
        row="N4",
        name="no answer, three times",
        inject=of_script(silent, timeout=0.2),
        expects=ProviderTimeoutError,
        attempts=3,
        max_attempts=3,
        within=3 * (0.2 + GRACE),
    )
    check(lasting, face, emulator)

    def script(connection: Connection) -> None:
        (silent if connection.number == 1 else answer_well)(connection)

    passing = Case(row="N4", name="no answer, once", inject=of_script(script, timeout=0.8), expects=None, attempts=2)
    check(passing, face, emulator)
