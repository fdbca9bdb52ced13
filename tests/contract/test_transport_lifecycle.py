"""Closing in the middle of things, stale connections, and what is logged: nothing leaks, neither sockets nor words."""

from __future__ import annotations

import gc
import logging
import threading
import time

import anyio
import pytest

from mrlclient import ConfigurationError, Embedder, OpenAI, ProviderConnectionError, ResponseContractError
from mrlclient.providers._exchange import Request
from mrlclient.testing.emulator import Fault
from tests.contract.exchanges import ANSWER, FACES, KEY, REQUEST, TEXT, answers, exchange, transport_to
from tests.contract.raw_server import raw_server, read_request

LOOPS = ["asyncio", "trio"]


def hosted(emulator):
    return Embedder(OpenAI("text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url))


class Gate:
    """Answers when it is told to, and knows when a request is there and when the other side is gone."""

    def __init__(self):
        self.asked, self.answer, self.gone = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, server, connection):
        while read_request(connection)[0]:
            self.asked.set()
            self.answer.wait(5)
            connection.sendall(ANSWER)
        self.gone.set()


def test_closed_in_the_middle_of_another_threads_request():
    """The request gets its answer, and takes the last connection with it; there is no other."""
    gate, replies = Gate(), []
    with raw_server(gate) as server:
        transport = transport_to(f"http://127.0.0.1:{server.port}")
        thread = threading.Thread(target=lambda: replies.append(transport.send(REQUEST)))
        thread.start()
        assert gate.asked.wait(5)
        transport.close()
        with pytest.raises(ConfigurationError, match="closed"):
            transport.send(REQUEST)
        gate.answer.set()
        thread.join(5)
        assert [reply.status for reply in replies] == [200]
        assert gate.gone.wait(5)
        assert transport._pool is None
        assert server.accepted == 1


def test_closed_by_a_signal_while_a_pool_is_taken():
    transport = transport_to("http://127.0.0.1:1")

    def handle():
        with transport._lock:
            transport.close()

    thread = threading.Thread(target=handle, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("loop", LOOPS)
def test_closed_in_the_middle_of_another_tasks_request(loop):
    gate, replies = Gate(), []

    async def main(url):
        transport = transport_to(url)

        async def ask():
            replies.append(await transport.asend(REQUEST))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.to_thread.run_sync(gate.asked.wait, 5)
            await transport.aclose()
            with pytest.raises(ConfigurationError, match="closed"):
                await transport.asend(REQUEST)
            gate.answer.set()
        assert transport._loops == {}

    with raw_server(gate) as server:
        anyio.run(main, f"http://127.0.0.1:{server.port}", backend=loop)
        assert [reply.status for reply in replies] == [200]
        assert gate.gone.wait(5)
        assert server.accepted == 1


@pytest.mark.parametrize("loop", LOOPS)
def test_closed_and_then_cancelled(loop):
    """The last request takes the connections with it, though it gets no answer."""
    gate = Gate()

    async def main(url):
        transport = transport_to(url)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.asend, REQUEST)
            await anyio.to_thread.run_sync(gate.asked.wait, 5)
            await transport.aclose()
            assert len(transport._loops) == 1
            tasks.cancel_scope.cancel()
        assert transport._loops == {}
        gate.answer.set()

    with raw_server(gate) as server:
        anyio.run(main, f"http://127.0.0.1:{server.port}", backend=loop)
        gc.collect()


def until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_closed_in_the_middle_of_another_threads_retry(emulator):
    emulator.faults.append(Fault(status=429, headers={"retry-after": "1"}, times=9))
    embedder, failures = hosted(emulator), []

    def work():
        with pytest.raises(ConfigurationError, match="closed") as caught:
            embedder.embed_query("a")
        failures.append(caught.value)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: emulator.requests)
    time.sleep(0.1)
    embedder.close()
    thread.join(5)
    assert len(failures) == 1
    assert embedder._engine.documents.main.provider._transport._pool is None
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("loop", LOOPS)
def test_closed_in_the_middle_of_another_tasks_retry(loop, emulator):
    emulator.faults.append(Fault(status=429, headers={"retry-after": "0.3"}, times=9))

    async def main():
        embedder = hosted(emulator)

        async def work():
            with pytest.raises(ConfigurationError, match="closed"):
                await embedder.aembed_query("a")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await anyio.to_thread.run_sync(until, lambda: emulator.requests)
            await anyio.sleep(0.1)
            await embedder.aclose()
        assert embedder._engine.documents.main.provider._transport._loops == {}

    anyio.run(main, backend=loop)
    assert len(emulator.requests) == 1


def test_trio_tells_of_a_provider_that_nobody_closed():
    """In a running loop: it is collected with a warning, as anything that should have been closed; its socket goes."""
    gate = Gate()
    gate.answer.set()

    async def main(url):
        await transport_to(url).asend(REQUEST)
        gc.collect()
        assert await anyio.to_thread.run_sync(gate.gone.wait, 5)

    with raw_server(gate) as server, pytest.warns(ResourceWarning, match="_keep"):
        anyio.run(main, f"http://127.0.0.1:{server.port}", backend="trio")


@pytest.mark.parametrize("face", FACES)
def test_a_connection_that_the_server_has_closed_is_not_used(face):
    """No error, though there is no second attempt."""
    closed = threading.Event()

    def answers_once(server, connection):
        read_request(connection)
        connection.sendall(ANSWER)
        connection.close()
        closed.set()

    async def main(url):
        transport = transport_to(url)
        statuses = []
        for _ in range(3):
            closed.clear()
            statuses.append((await transport.asend(REQUEST)).status)
            await anyio.to_thread.run_sync(closed.wait, 5)
            await anyio.sleep(0.02)
        await transport.aclose()
        return statuses

    with raw_server(answers_once) as server:
        url = f"http://127.0.0.1:{server.port}"
        if face != "sync":
            assert anyio.run(main, url, backend=face) == [200] * 3
        else:
            transport = transport_to(url)
            for _ in range(3):
                closed.clear()
                assert transport.send(REQUEST).status == 200
                assert closed.wait(5)
                time.sleep(0.02)
            transport.close()
        assert server.accepted == 3


@pytest.mark.parametrize("face", FACES)
def test_endless_headers_are_cut_off(face):
    def endless_headers(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"x-header: " + b"x" * 1000 + b"\r\n")

    with raw_server(endless_headers) as server:
        error = exchange(f"http://127.0.0.1:{server.port}", face)
        assert type(error) is ProviderConnectionError
        assert server.ended.wait(5)


@pytest.mark.parametrize("face", FACES)
def test_endless_trailers_are_cut_off(face):
    def endless_trailers(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        while True:
            connection.sendall(b"x-trailer: " + b"x" * 1000 + b"\r\n")

    with raw_server(endless_trailers) as server:
        error = exchange(f"http://127.0.0.1:{server.port}", face)
        assert type(error) is ProviderConnectionError
        assert server.ended.wait(5)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("status", [200, 500])
def test_an_endless_body_is_cut_off(status, face):
    def endless(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\n\r\n" % status)
        while True:
            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")

    with raw_server(endless) as server:
        outcome = exchange(f"http://127.0.0.1:{server.port}", face)
        assert server.ended.wait(5)
    gc.collect()
    if status == 200:
        assert type(outcome) is ResponseContractError
    else:
        assert outcome.status == 500
        assert 65_536 < len(outcome.body) <= 2 * 65_536


@pytest.mark.parametrize("face", FACES)
def test_an_answer_that_says_it_is_too_long_is_not_read(face):
    gone = threading.Event()

    def too_long(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2000000000\r\n\r\n{")
        if not connection.recv(1):
            gone.set()

    with raw_server(too_long) as server:
        error = exchange(f"http://127.0.0.1:{server.port}", face)
        assert type(error) is ResponseContractError
        assert "longer than 1000 bytes" in str(error)
        assert gone.wait(5)


@pytest.mark.parametrize("face", FACES)
def test_at_its_bound_an_answer_is_whole(face):
    body = b"{" + b" " * (REQUEST.max_response_bytes - 2) + b"}"

    def handle(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    with raw_server(handle) as server:
        assert exchange(f"http://127.0.0.1:{server.port}", face).body == body


@pytest.mark.parametrize("face", FACES)
def test_neither_key_nor_text_is_logged(face, caplog):
    """By nobody: httpx2, httpcore2, asyncio and the rest, at their most talkative."""
    caplog.set_level(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in ("httpx2", "httpcore2", "httpcore2.http11", "asyncio")]
    for logger in loggers:
        caplog.set_level(logging.DEBUG, logger=logger.name)
    with raw_server(answers) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert exchange(url, face).status == 200
    with raw_server(lambda server, connection: read_request(connection)) as server:
        assert type(exchange(f"http://127.0.0.1:{server.port}", face)) is ProviderConnectionError
    assert any(record.name.startswith("httpcore2") for record in caplog.records)
    for record in caplog.records:
        shown = f"{record.getMessage()} {record.args!r} {record.exc_info!r} {vars(record)!r}"
        assert KEY not in shown
        assert TEXT not in shown


def test_more_requests_at_once_than_are_usual():
    """Each has a connection of its own, and the next ones use those."""
    request = Request({"input": ["a"]}, 1000)

    async def main(url):
        transport = transport_to(url)
        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                for _ in range(64):
                    tasks.start_soon(transport.asend, request)
        await transport.aclose()

    together = threading.Barrier(64)

    def answers_together(server, connection):
        while read_request(connection)[0]:
            together.wait(10)
            connection.sendall(ANSWER)

    with raw_server(answers_together) as server:
        anyio.run(main, f"http://127.0.0.1:{server.port}")
        assert server.accepted == 64
