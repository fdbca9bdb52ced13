"""A cancelled exchange takes its connection with it, wherever it was: connecting, waiting, or reading."""

from __future__ import annotations

import asyncio
import gc
import threading

import anyio
import pytest

from tests.contract.exchanges import ANSWER, REQUEST, transport_to
from tests.contract.raw_server import raw_server, read_request

LOOPS = ["asyncio", "trio"]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_connection_attempt_leaves_no_socket(loop):
    """While TLS is agreed on: an unclosed socket would be a warning, and so an error."""
    gone = threading.Event()

    def never_answers(server, connection):
        while connection.recv(65536):
            pass
        gone.set()

    async def main(url):
        transport = transport_to(url)
        with anyio.move_on_after(0.2) as scope:
            await transport.asend(REQUEST)
        assert scope.cancelled_caught
        gc.collect()
        assert await anyio.to_thread.run_sync(gone.wait, 5)
        await transport.aclose()

    with raw_server(never_answers) as server:
        anyio.run(main, f"https://127.0.0.1:{server.port}", backend=loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"], ids=["head", "body"])
def test_a_cancelled_request_lets_go_of_its_connection(begun, loop):
    """At once, and not when its seconds are over: the server may stop, and nobody waits for what nobody wants."""
    asked, gone = threading.Event(), threading.Event()

    def keeps_waiting(server, connection):
        read_request(connection)
        connection.sendall(begun)
        asked.set()
        if not connection.recv(1):
            gone.set()

    async def main(url):
        transport = transport_to(url, timeout=30.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.asend, REQUEST)
            assert await anyio.to_thread.run_sync(asked.wait, 5)
            # The beginning of the body is on its way to whoever reads it.
            await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(gone.wait, 5)
        await transport.aclose()

    with raw_server(keeps_waiting) as server:
        anyio.run(main, f"http://127.0.0.1:{server.port}", backend=loop)
    gc.collect()


def test_a_closing_that_the_loop_cancels_closes_all():
    """As `asyncio.run` does with what is still under way at its end; anyio's shields hold nothing of that off."""

    def answers(server, connection):
        read_request(connection)
        # Nobody has his answer before all have asked, so that each takes a connection.
        together.wait(5)
        connection.sendall(ANSWER)
        while connection.recv(65536):
            pass
        gone.release()

    async def main(url):
        transport = transport_to(url)
        await asyncio.gather(*[transport.asend(REQUEST) for _ in range(3)])
        closing = asyncio.create_task(transport.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        del transport
        gc.collect()
        for _ in range(3):
            assert await asyncio.to_thread(gone.acquire, timeout=5)

    together, gone = threading.Barrier(3), threading.Semaphore(0)
    with raw_server(answers) as server:
        asyncio.run(main(f"http://127.0.0.1:{server.port}"))
