"""Event loops: closed and reopened, several at once, held up by a synchronous call, left in the middle."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.from_thread
import numpy as np
import pytest
import trio

from mrlclient import Embedder, Limits, OpenAI, ProviderError
from mrlclient.drivers import SyncDriver
from mrlclient.flow import embed
from mrlclient.models import catalogue
from mrlclient.testing.emulator import Fault, emulator_vector
from tests.contract.holding import Held

MODEL = "openai:text-embedding-3-small"

#: The emulator's headers tell of limits that it does not have.
UNLIMITED = Limits(math.inf, math.inf)
BACKENDS = ["asyncio", "trio"]


@pytest.fixture(params=[None, "memory:", "file"], ids=["no cache", "memory", "file"])
def cache(request, tmp_path):
    return str(tmp_path / "vectors.db") if request.param == "file" else request.param


@pytest.fixture
def embedder(emulator, cache):
    with hosted(emulator, cache=cache) as embedder:
        yield embedder


#: Texts that a request holds at most.
EACH = 20


def hosted(emulator, **options):
    spec = replace(catalogue().models[MODEL], max_inputs=EACH)
    provider = OpenAI(spec, api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=30)
    return Embedder(provider, limits=UNLIMITED, **options)


def check(rows, texts):
    np.testing.assert_allclose(rows, [emulator_vector(MODEL, text) for text in texts], atol=1e-5)


def sockets():
    """How many sockets this process has open."""
    kinds = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(kind.startswith("socket:") for kind in kinds)


@pytest.fixture
def no_socket_left(emulator):
    """The sockets of this process are as many after the test as before; the emulator's go with it."""
    if not Path("/proc/self/fd").is_dir():
        yield
        return
    gc.collect()
    # Without the one that the emulator listens at.
    before = sockets() - 1
    yield
    emulator.close()
    gc.collect()
    until = time.monotonic() + 5
    while sockets() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert sockets() <= before


def batches(n):
    """Texts that take n requests."""
    return [f"text {i}" for i in range(EACH * n)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_left_in_the_middle_harms_no_other(backend, no_socket_left, embedder, emulator):
    async def leave():
        with anyio.move_on_after(0.1) as scope:
            await embedder.aembed(["slow"])
        assert scope.cancelled_caught

    for i in range(3):
        emulator.faults.append(Fault(delay=30))
        anyio.run(leave, backend=backend)
        text = "slow" if i == 2 else f"{i}"
        check(anyio.run(embedder.aembed, [text], backend=backend), [text])
        check(embedder.embed([f"sync {i}"]), [f"sync {i}"])
    embedder.close()


def test_loops_in_threads_share_an_embedder(no_socket_left, embedder, emulator, cache):
    """Two of asyncio, two of trio, and two threads without any, all at once, all for the same texts."""
    emulator.faults.append(Fault(delay=0.3))
    texts = [f"text {i}" for i in range(20)]
    together = threading.Barrier(6)
    failures = []

    def work(run):
        try:
            together.wait(10)
            for _ in range(3):
                check(run().embeddings, texts)
        except BaseException as error:
            failures.append(error)

    ways = [
        *[partial(anyio.run, embedder.aembed, texts, backend=backend) for backend in BACKENDS * 2],
        *[partial(embedder.embed, texts)] * 2,
    ]
    threads = [threading.Thread(target=work, args=(way,)) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert len(emulator.requests) == (1 if cache else 18)
    embedder.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_synchronous_call_in_a_running_loop(backend, no_socket_left, embedder, emulator):
    """It needs no loop and starts none; a task of this loop that is getting the same text is not waited for."""
    held = Held()
    emulator.faults.append(held.fault)

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(embedder.aembed, ["a", "b"])
            while not held.asked.is_set():
                await anyio.sleep(0.005)
            check(embedder.embed(["a", "c"]), ["a", "c"])
            held.go.set()
        check(await embedder.aembed(["a", "b", "c"]), ["a", "b", "c"])
        await embedder.aclose()

    with anyio.from_thread.start_blocking_portal(backend) as portal:
        portal.start_task_soon(main).result(timeout=20)
    assert len(emulator.requests) == 3


def test_a_call_from_within_a_call_waits_for_nothing_of_its_own(emulator):
    """A signal's handler, say: what its thread is getting already cannot come before it returns."""
    with hosted(emulator, cache="memory:") as embedder:
        rows = []
        send = embedder._engine.documents.main.provider.send

        def interrupted(*arguments):
            if not rows:
                rows.append(None)
                rows[0] = embedder.embed(["a"]).embeddings
            return send(*arguments)

        embedder._engine.documents.main.provider.send = interrupted
        check(embedder.embed(["a", "b"]), ["a", "b"])
        check(rows[0], ["a"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_call_keeps_what_was_finished(backend, emulator, tmp_path):
    """Of four batches two are answered: the cache has both, and only the others are asked for again."""
    texts = batches(4)
    with hosted(emulator, cache=str(tmp_path / "vectors.db"), max_concurrency=4) as embedder:
        for first in (texts[2 * EACH], texts[3 * EACH]):
            emulator.faults.append(Fault(delay=20, when=lambda request, first=first: request.body["input"][0] == first))

        async def main():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(embedder.aembed, texts)
                with anyio.fail_after(20):
                    while embedder._engine.cache.cache.stats().entries < 2 * EACH or len(emulator.requests) < 4:
                        await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()

        started = time.monotonic()
        anyio.run(main, backend=backend)
        assert time.monotonic() - started < 15
        emulator.clear()
        result = anyio.run(embedder.aembed, texts, backend=backend)
        assert result.usage.cached_texts == 2 * EACH
        assert sorted(len(request.body["input"]) for request in emulator.requests) == [EACH, EACH]
        check(result.embeddings, texts)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failure_keeps_what_was_finished(backend, emulator, tmp_path):
    texts = batches(3)
    with hosted(emulator, cache=str(tmp_path / "vectors.db"), max_concurrency=1, max_attempts=1) as embedder:
        emulator.faults.append(Fault(status=500, when=lambda request: request.body["input"][0] == texts[2 * EACH]))
        with pytest.raises(ProviderError) as caught:
            anyio.run(embedder.aembed, texts, backend=backend)
        assert caught.value.status == 500
        assert caught.value.__context__ is None
        assert embedder.embed(texts).usage.cached_texts == 2 * EACH


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exit_in_one_of_many_batches_ends_the_loop_and_its_threads(backend, kind, emulator, tmp_path):
    """As from a signal's handler. A thread that were left waiting for work would keep the interpreter from ending."""
    with hosted(emulator, cache=str(tmp_path / "vectors.db")) as embedder:
        send = embedder._engine.documents.main.provider.asend
        calls = []

        async def exits(*arguments):
            calls.append(None)
            await anyio.sleep(0.05)
            if len(calls) == 3:
                raise kind
            return await send(*arguments)

        embedder._engine.documents.main.provider.asend = exits
        with pytest.raises(kind):
            anyio.run(embedder.aembed, batches(3), backend=backend)
        until = time.monotonic() + 5
        while any(thread.name.startswith("AnyIO") for thread in threading.enumerate()):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_closed_coroutine_lets_go(no_socket_left, emulator):
    """Never awaited to its end, as when a loop is dropped: nobody waits for the row that it was getting."""
    emulator.faults.append(Fault(delay=30))
    with hosted(emulator, cache="memory:") as embedder:
        loop = asyncio.new_event_loop()
        task = loop.create_task(embedder.aembed(["a"]))
        loop.run_until_complete(asyncio.sleep(0.2))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        check(embedder.embed(["a"]), ["a"])
        abandoned = embedder.aembed(["b"])
        abandoned.close()
        check(embedder.embed(["b"]), ["b"])


@pytest.mark.parametrize("after", [0, 1])
def test_a_flow_closed_early_hands_over_what_it_led(after, emulator):
    """The generator alone, closed at its look into the cache or at its requests: whoever comes next leads."""
    with hosted(emulator, cache="memory:") as embedder:
        engine = embedder._engine
        call = engine.plan(["a", "b"], None, None, None, "raise")
        flow = embed(call, engine._caching(call))
        operation = next(flow)
        driver = SyncDriver()
        for _ in range(after):
            operation = flow.send(driver._perform(operation))
        flow.close()
        assert embedder._engine.cache.flights._under_way == {}
        check(embedder.embed(["a", "b"]), ["a", "b"])


def test_trio_and_asyncio_in_turn(no_socket_left, embedder):
    """Each loop has connections of its own, and takes them with it."""
    for i in range(2):
        check(asyncio.run(embedder.aembed([f"asyncio {i}"])), [f"asyncio {i}"])
        check(trio.run(embedder.aembed, [f"trio {i}"]), [f"trio {i}"])
        assert embedder._engine.documents.main.provider._transport._loops == {}
    embedder.close()


def test_two_loops_of_one_thread_in_turn(no_socket_left, embedder):
    """A loop may be stopped and go on later, another meanwhile."""
    loops = [asyncio.new_event_loop() for _ in range(2)]
    for i in range(3):
        for j, loop in enumerate(loops):
            check(loop.run_until_complete(embedder.aembed([f"{i} {j}", "same"])), [f"{i} {j}", "same"])
    for loop in loops:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    embedder.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_deadline_of_the_callers_ends_waits_between_attempts(backend, no_socket_left, emulator):
    # Not a 429: that would make everybody wait who uses the account.
    emulator.faults.append(Fault(status=503, headers={"retry-after": "20"}))

    async def main():
        async with hosted(emulator) as embedder:
            with anyio.move_on_after(0.3) as scope:
                await embedder.aembed(["a"])
            assert scope.cancelled_caught
            check(await embedder.aembed(["a"]), ["a"])

    started = time.monotonic()
    anyio.run(main, backend=backend)
    assert time.monotonic() - started < 10
