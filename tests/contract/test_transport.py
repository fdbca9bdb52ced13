"""The transport over real sockets: bounds, deadlines, redirects, connections."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import pytest

from mrlclient import (
    Embedder,
    Limits,
    OpenAI,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    ResponseContractError,
)
from mrlclient.models import catalogue
from mrlclient.testing.emulator import Fault

FACES = ["sync", "asyncio"]


def openai_at(url, **options):
    return OpenAI("text-embedding-3-small", api_key="sk-canary", base_url=url, **options)


def query(embedder, face):
    return embedder.embed_query("a") if face == "sync" else asyncio.run(embedder.aembed_query("a"))


def failure(provider, face, kind=ProviderError):
    with Embedder(provider, max_attempts=1) as embedder, pytest.raises(kind) as caught:
        query(embedder, face)
    assert "canary" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("face", FACES)
def test_nobody_listens(face):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    error = failure(openai_at(f"http://127.0.0.1:{port}/v1"), face, ProviderConnectionError)
    assert error.retryable


@pytest.mark.parametrize("face", FACES)
def test_no_tls_on_the_other_side(face, emulator):
    url = emulator.openai_base_url.replace("http://", "https://")
    assert type(failure(openai_at(url, timeout=5), face)) is ProviderConnectionError


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    "fault",
    [Fault(dribble=0.05), Fault(delay=5.0), Fault(stall=5.0), Fault(delay=0.1, stall=5.0)],
    ids=["dribble", "delay", "stall", "late, then a stall"],
)
def test_the_deadline_covers_the_whole_answer(face, fault, emulator):
    emulator.faults.append(fault)
    started = time.monotonic()
    provider = OpenAI(
        "text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=0.2
    )
    error = failure(provider, face, ProviderTimeoutError)
    assert time.monotonic() - started < 1.5
    assert error.retryable


class Handler(BaseHTTPRequestHandler):
    """Answers each path in its own bad way, and notes what reached it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.server.seen.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
        getattr(self, self.path.strip("/").split("/")[0])()

    def log_message(self, *args):
        pass

    def _start(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def redirect(self):
        self._start(307, location=self.server.other, content_length="0")

    def endless(self):
        self._start(int(self.path.split("/")[2]), transfer_encoding="chunked")
        try:
            while True:
                self.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        except OSError:
            self.server.stopped.set()
        self.close_connection = True

    def gzip(self):
        self._start(200, content_encoding="gzip", content_length="2")
        self.wfile.write(b"{}")


@pytest.fixture
def bad_server():
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    for server in servers:
        server.seen, server.stopped, server.daemon_threads = [], threading.Event(), True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    servers[0].url, servers[1].url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    servers[0].other, servers[0].target = servers[1].url + "/gzip", servers[1]
    yield servers[0]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("face", FACES)
def test_redirects_are_not_followed(face, bad_server):
    error = failure(openai_at(bad_server.url + "/redirect"), face)
    assert (error.status, error.retryable) == (307, False)
    assert bad_server.target.seen == []


@pytest.mark.parametrize("face", FACES)
def test_an_endless_answer_is_cut_off(face, bad_server):
    failure(openai_at(bad_server.url + "/endless/200", timeout=20), face, ResponseContractError)
    assert bad_server.stopped.wait(5)


@pytest.mark.parametrize("face", FACES)
def test_an_endless_error_is_cut_off(face, bad_server):
    error = failure(openai_at(bad_server.url + "/endless/500", timeout=20), face)
    assert error.status == 500
    assert bad_server.stopped.wait(5)


@pytest.mark.parametrize("face", FACES)
def test_a_compressed_answer_is_not_unpacked(face, bad_server):
    failure(openai_at(bad_server.url + "/gzip"), face, ResponseContractError)
    assert bad_server.seen[0][1]["Accept-Encoding"] == "identity"


def connections(emulator):
    return len({request.connection for request in emulator.requests})


def hosted(emulator, max_inputs=2048, **options):
    # The emulator's headers tell of limits that it does not have.
    options["limits"] = Limits(math.inf, math.inf)
    spec = replace(catalogue().models["openai:text-embedding-3-small"], max_inputs=max_inputs)
    return Embedder(OpenAI(spec, api_key=emulator.openai_key, base_url=emulator.openai_base_url), **options)


def test_connections_are_kept_between_calls(emulator):
    with hosted(emulator) as embedder:
        for _ in range(5):
            embedder.embed_query("a")
        assert connections(emulator) == 1

    async def calls():
        async with hosted(emulator) as embedder:
            for _ in range(5):
                await embedder.aembed_query("a")

    emulator.clear()
    anyio.run(calls)
    assert connections(emulator) == 1


@pytest.mark.parametrize("face", FACES)
def test_concurrency_is_bounded(face, emulator):
    """Four batches under way at once take four connections, and no more."""
    texts = [f"text {i}" for i in range(11)]
    for _ in texts:
        emulator.faults.append(Fault(delay=0.05))
    with hosted(emulator, max_inputs=1, max_concurrency=4) as embedder:
        if face == "sync":
            embedder.embed(texts)
        else:
            asyncio.run(embedder.aembed(texts))
    assert len(emulator.requests) == 11
    assert 2 <= connections(emulator) <= 4


def test_a_cancelled_call_leaves_the_embedder_usable(emulator):
    async def main():
        async with hosted(emulator) as embedder:
            emulator.faults.append(Fault(delay=5.0))
            with anyio.move_on_after(0.1) as scope:
                await embedder.aembed_query("a")
            assert scope.cancelled_caught
            await embedder.aembed_query("a")

    anyio.run(main)


def test_a_loop_takes_its_connections_with_it(emulator):
    """Nobody calls aclose, and yet no socket outlives its loop: an unclosed one would be a warning, and so an error."""
    embedder = hosted(emulator)
    for _ in range(3):
        asyncio.run(embedder.aembed_query("a"))
        anyio.run(embedder.aembed_query, "a", backend="trio")
        assert embedder._engine.documents.main.provider._transport._loops == {}
    assert connections(emulator) == 6
    embedder.close()


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("status", "requests"), [(401, 1), (400, 1), (429, 2)])
def test_a_compressed_error_keeps_its_status(face, status, requests, emulator):
    fault = Fault(status=status, headers={"content-encoding": "gzip", "retry-after": "0.01"}, body=b"xx", times=9)
    emulator.faults.append(fault)
    with hosted(emulator, max_attempts=2) as embedder, pytest.raises(ProviderError) as caught:
        query(embedder, face)
    assert caught.value.status == status
    assert len(emulator.requests) == requests


def test_a_loopback_address_goes_through_no_proxy(emulator, bad_server, monkeypatch):
    """A proxy would see the key and the texts of an unencrypted request."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, bad_server.url)
    with hosted(emulator) as embedder:
        embedder.embed_query("a")
        asyncio.run(embedder.aembed_query("a"))
    assert bad_server.seen == []


def script(code, emulator):
    """Runs code in a process of its own, with an embedder `e` on the emulator."""
    start = (
        "import os, signal, threading, time, numpy as np\n"
        "from mrlclient import Embedder, OpenAI\n"
        "from mrlclient.testing.emulator import emulator_vector\n"
        f"provider = OpenAI('text-embedding-3-small', api_key={emulator.openai_key!r}, "
        f"base_url={emulator.openai_base_url!r}, timeout=30)\n"
        "e = Embedder(provider)\n"
    )
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, timeout=60, check=False)


FORK = """
def right(text):
    for i in range(30):
        assert np.abs(e.embed_query(f"{text} {i}") - emulator_vector(e.model, f"{text} {i}")).max() < 1e-5
e.embed_query("warm")
child = os.fork()
if child == 0:
    try:
        right("child")
    except BaseException:
        os._exit(1)
    os._exit(0)
right("parent")
assert os.waitpid(child, 0)[1] == 0
print("both right")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_takes_connections_of_its_own(emulator):
    """On a connection shared with the parent, each would read the other's answer."""
    run = script(FORK, emulator)
    assert run.stdout.strip() == "both right", run.stderr


INTERRUPTED = """
threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
signal.signal(signal.SIGINT, signal.default_int_handler)
started = time.monotonic()
try:
    e.embed([f"text {i}" for i in range(COUNT)])
except KeyboardInterrupt:
    print(time.monotonic() - started)
"""


@pytest.mark.parametrize("count", [1, 2048 * 3], ids=["in the calling thread", "in threads"])
@pytest.mark.parametrize(
    "fault", [Fault(status=500, delay=20, times=9), Fault(status=429, headers={"retry-after": "20"}, times=9)]
)
def test_an_interrupt_waits_for_no_request_under_way(fault, count, emulator):
    emulator.faults.append(fault)
    run = script(f"COUNT = {count}\n{INTERRUPTED}", emulator)
    assert 0.5 < float(run.stdout) < 10, run.stderr
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("call", ["e.embed_query('a')", "import asyncio; asyncio.run(e.aembed_query('a'))"], ids=FACES)
def test_a_process_may_end_right_after_a_call(call, emulator):
    """Nothing of a transport outlives the interpreter, and stumbles over its end."""
    run = script(call, emulator)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_failure_waits_for_no_other_batch(emulator):
    # Not a 429: that would make the third wait, too.
    emulator.faults.append(Fault(status=503, headers={"retry-after": "20"}, times=2))
    emulator.faults.append(Fault(status=401, delay=0.2))
    started = time.monotonic()
    with hosted(emulator, max_concurrency=3) as embedder, pytest.raises(ProviderError) as caught:
        embedder.embed([f"text {i}" for i in range(2048 * 3)])
    assert caught.value.status == 401
    assert time.monotonic() - started < 5


def test_a_collected_embedder_leaves_no_socket(emulator):
    """Not closed by anybody; an unclosed socket would be a warning, and so an error."""
    embedder = hosted(emulator)
    embedder.embed_query("a")
    del embedder
    gc.collect()

    async def main():
        await hosted(emulator).aembed_query("a")
        gc.collect()
        await anyio.sleep(0.05)

    anyio.run(main)
    gc.collect()


def test_loops_that_end_without_a_word_are_forgotten(emulator):
    with hosted(emulator) as embedder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(5):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(embedder.aembed_query("a"))
            loop.close()
        assert len(embedder._engine.documents.main.provider._transport._loops) == 1
        asyncio.run(embedder.aembed_query("a"))
        gc.collect()
