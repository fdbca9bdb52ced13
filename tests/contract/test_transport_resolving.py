"""A name is looked up within the seconds of an exchange, and a resolver that does not answer holds nothing else up."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from mrlclient import Embedder, OpenAI, ProviderConnectionError, ProviderError, ProviderTimeoutError
from tests.contract.exchanges import REQUEST, answers, exchange, transport_to
from tests.contract.raw_server import raw_server

resolve = socket.getaddrinfo


class Resolver:
    """Takes the place of the system's, which cannot be told to be silent. Its one host is the loopback.

    Attributes:
        answers: Set where it answers.
        asked: The threads that asked for the host.
    """

    def __init__(self):
        self.answers = threading.Event()
        self.asked = []

    def __call__(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002 - as the system's
        # Trio asks first whether it is an address.
        if host in ("acme.invalid", b"acme.invalid") and not flags & socket.AI_NUMERICHOST:
            self.asked.append(threading.current_thread())
            self.answers.wait(30)
            host = "127.0.0.1"
        return resolve(host, port, family, type, proto, flags)

    def wait_until_asked(self):
        while not self.asked:
            time.sleep(0.01)


@pytest.fixture
def resolver(monkeypatch):
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.answers.set()
    for thread in resolver.asked:
        if thread.name == "mrlclient lookup":
            thread.join(5)
            assert not thread.is_alive()


def timed_out(transport, seconds):
    started = time.monotonic()
    with pytest.raises(ProviderTimeoutError, match=f"acme did not answer within {seconds} s"):
        transport.send(REQUEST, seconds)
    assert seconds * 0.9 < time.monotonic() - started < seconds + 1.5


def test_a_resolver_that_does_not_answer(resolver):
    """The call ends in time. The next one asks again, and is answered."""
    with raw_server(answers) as server:
        transport = transport_to(f"http://acme.invalid:{server.port}", timeout=20)
        timed_out(transport, 0.2)
        timed_out(transport, 0.2)
        assert [thread.is_alive() for thread in resolver.asked] == [True, True]
        resolver.answers.set()
        assert transport.send(REQUEST).status == 200
        assert len(resolver.asked) == 3
        transport.close()


def test_the_deadline_of_an_embedder(resolver):
    provider = OpenAI("text-embedding-3-small", api_key="sk-canary", base_url="https://acme.invalid/v1", timeout=20)
    started = time.monotonic()
    with Embedder(provider, deadline=0.5) as embedder, pytest.raises(ProviderTimeoutError):
        embedder.embed_query("a")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_lookup_of_an_event_loop(backend, resolver):
    """It takes a thread of its own for it, which is given up as well."""

    async def main():
        transport = transport_to("http://acme.invalid:9", timeout=20)
        started = time.monotonic()
        with pytest.raises(ProviderTimeoutError):
            await transport.asend(REQUEST, 0.2)
        assert time.monotonic() - started < 1.7
        # At the end of its loop asyncio waits for the thread.
        resolver.answers.set()
        await transport.aclose()

    anyio.run(main, backend=backend)
    assert len(resolver.asked) == 1


def test_calls_at_the_same_time_share_a_lookup(resolver):
    with raw_server(answers) as server, ThreadPoolExecutor(20) as threads:
        transport = transport_to(f"http://acme.invalid:{server.port}", timeout=20)
        first = threads.submit(transport.send, REQUEST)
        resolver.wait_until_asked()
        others = [threads.submit(transport.send, REQUEST) for _ in range(19)]
        while transport._users < 20:
            time.sleep(0.01)
        resolver.answers.set()
        assert [sent.result(5).status for sent in [first, *others]] == [200] * 20
        # One more for what came between its end and the first connection.
        assert len(resolver.asked) <= 2
        transport.close()


def test_one_that_gives_up_does_not_end_the_lookup_of_another(resolver):
    with raw_server(answers) as server, ThreadPoolExecutor(1) as threads:
        transport = transport_to(f"http://acme.invalid:{server.port}", timeout=20)
        patient = threads.submit(transport.send, REQUEST)
        resolver.wait_until_asked()
        timed_out(transport, 0.1)
        resolver.answers.set()
        assert patient.result(5).status == 200
        assert len(resolver.asked) == 1
        transport.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address_needs_no_thread(host, monkeypatch):
    started = []
    monkeypatch.setattr(threading.Thread, "start", started.append)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = exchange(f"http://{host}:{unused.getsockname()[1]}", "sync")
    assert type(error) is ProviderConnectionError
    assert error.retryable
    assert started == []


def test_a_name_that_cannot_be_one():
    """What is no name for the system is no foreign error for the caller."""
    error = exchange(f"https://{'a' * 64}.invalid", "sync")
    assert type(error) is ProviderError
    assert not error.retryable


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_during_a_lookup(resolver):
    """The child does not wait for a thread that it does not have."""
    with raw_server(answers) as server, ThreadPoolExecutor(1) as threads:
        transport = transport_to(f"http://acme.invalid:{server.port}", timeout=20)
        waiting = threads.submit(transport.send, REQUEST)
        resolver.wait_until_asked()

        def child():
            resolver.answers.set()
            os._exit(0 if transport.send(REQUEST, 5).status == 200 else 1)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads, from 3.12 on
            process = multiprocessing.get_context("fork").Process(target=child)
            process.start()
        process.join(10)
        assert process.exitcode == 0
        resolver.answers.set()
        assert waiting.result(5).status == 200
        transport.close()


def run(code):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)


def test_the_end_of_a_process_does_not_wait_for_it():
    done = run("""
        import socket, threading
        from mrlclient import OpenAI, Embedder, ProviderTimeoutError

        socket.getaddrinfo = lambda *args, **options: threading.Event().wait()
        provider = OpenAI("text-embedding-3-small", api_key="sk-canary", base_url="https://acme.invalid/v1", timeout=20)
        try:
            Embedder(provider, deadline=0.2).embed_query("a")
        except ProviderTimeoutError:
            print([thread.name for thread in threading.enumerate() if thread.daemon])
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("['mrlclient lookup']\n", "", 0)


def test_a_lookup_as_a_process_ends():
    """From Python 3.12 on there are no new threads then."""
    done = run("""
        import atexit
        from mrlclient.providers._resolving import Resolver

        atexit.register(lambda: print("127.0.0.1" in Resolver().addresses("localhost", 80, 5)))
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)
