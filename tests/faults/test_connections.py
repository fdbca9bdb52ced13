"""N1: connections refused, reset or ended, at any byte. Retried within bounds; one that passes costs nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import anyio
import numpy as np
import pytest

from mrlclient import Embedder, ProviderConnectionError, ResponseContractError
from mrlclient.testing import Emulator
from tests.faults.matrix import (
    TEXTS,
    Case,
    Site,
    check,
    embed,
    expected_rows,
    named,
    of_script,
    openai_at,
    then_well,
    waits_skipped,
)
from tests.faults.server import MODEL, Connection, Script, answer_well, http, right_answer, serving

CUTS = 50


def cut(share: float, *, reset: bool) -> Script:
    """Ends the connection after a share of the answer."""

    def script(connection: Connection) -> None:
        answer = right_answer(connection.read_request())
        connection.send(answer[: int(len(answer) * share)])
        if reset:
            connection.reset()

    return script


def ended_unread(connection: Connection) -> None:
    """Ends it without having read anything."""


def reset_unread(connection: Connection) -> None:
    connection.reset()


def without_length(connection: Connection) -> None:
    """The end of the connection is the end of the body, and comes too early."""
    answer = right_answer(connection.read_request(), length=False)
    connection.send(answer[:-9])


def chunks_cut_off(connection: Connection) -> None:
    body = right_answer(connection.read_request()).partition(b"\r\n\r\n")[2]
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    connection.send(head + b"%x\r\n" % len(body) + body + b"\r\n")


def not_http(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"220 mail.example ESMTP\r\n")


def two_lengths(connection: Connection) -> None:
    answer = right_answer(connection.read_request())
    connection.send(answer.replace(b"\r\n", b"\r\ncontent-length: 7\r\n", 1))


def length_of_letters(connection: Connection) -> None:
    connection.read_request()
    connection.send(http(b"{}", headers="content-length: two\r\n", length=False))


def nul_in_a_header(connection: Connection) -> None:
    answer = right_answer(connection.read_request())
    connection.send(answer.replace(b"\r\n", b"\r\nx-odd: a\0b\r\n", 1))


@contextmanager
def nobody(_: Emulator) -> Iterator[Site]:
    """A port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield Site(provider=openai_at(f"http://127.0.0.1:{unused.getsockname()[1]}/v1"), requests=None)


@contextmanager
def somebody_later(_: Emulator) -> Iterator[Site]:
    """A port on which a server starts to listen during the first wait."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with ExitStack() as later:
        provider = openai_at(f"http://127.0.0.1:{port}/v1")
        yield Site(
            provider=provider, requests=None, on_wait=lambda: later.enter_context(serving(answer_well, port=port))
        )


def ends(name: str, script: Script, error: type = ProviderConnectionError, attempts: int = 5) -> list[Case]:
    """It lasts: an error within bounds. It passes: one more request."""
    return [
        Case(row="N1", name=f"{name}, always", inject=of_script(script), expects=error, attempts=attempts),
        Case(
            row="N1", name=f"{name}, once", inject=of_script(then_well(script, answer_well)), expects=None, attempts=2
        ),
    ]


CASES = [
    Case(row="N1", name="refused, always", inject=nobody, expects=ProviderConnectionError, attempts=5),
    Case(row="N1", name="refused, once", inject=somebody_later, expects=None, attempts=2),
    *ends("ended unread", ended_unread),
    *ends("reset unread", reset_unread),
    *ends("reset before the answer", cut(0, reset=True)),
    *ends("ended before the answer", cut(0, reset=False)),
    *ends("reset in the body", cut(0.5, reset=True)),
    *ends("ended in the body", cut(0.5, reset=False)),
    *ends("ended in a chunked body", chunks_cut_off),
    *ends("ended in a body without a length", without_length, ResponseContractError, 3),
    *ends("not HTTP", not_http),
    *ends("two lengths", two_lengths),
    *ends("a length of letters", length_of_letters),
    *ends("NUL in a header", nul_in_a_header),
    *(
        Case(
            row="N1",
            name=f"{'reset' if reset else 'ended'} after {i / CUTS:.0%} of the answer, once",
            inject=of_script(then_well(cut(i / CUTS, reset=reset), answer_well)),
            expects=None,
            attempts=2,
        )
        for reset in (True, False)
        for i in range(CUTS)
    ),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_ends_between_calls_costs_no_attempt(reset, face):
    """As after an idle minute: it is seen to be dead before it is used."""

    def script(connection):
        connection.send(right_answer(connection.read_request()))
        if reset:
            connection.wait(0.02)
            connection.reset()

    texts = [[text] for text in TEXTS]
    with serving(script) as server, waits_skipped() as waits, Embedder(openai_at(server.url)) as embedder:

        async def calls():
            rows = []
            for text in texts:
                rows.append((await embedder.aembed(text)).embeddings)
                await anyio.sleep(0.05)
            return rows

        if face == "sync":
            rows = []
            for text in texts:
                rows.append(embed(embedder, face, text))
                time.sleep(0.05)
        else:
            rows = anyio.run(calls)
        assert server.connections == len(TEXTS)
    assert waits == []
    np.testing.assert_allclose(np.vstack(rows), expected_rows(MODEL, TEXTS, 1536), atol=3e-4)
