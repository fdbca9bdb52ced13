"""A text that is under way: who waits for whom, how long, and what becomes of a leader's failure."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mrlclient import AuthenticationError, Embedder, OpenAI, ResponseContractError
from mrlclient.cache import MemoryCache
from mrlclient.cache.flights import _RECENT, Flights
from mrlclient.testing.emulator import Fault, emulator_vector

MODEL = "text-embedding-3-small"


@pytest.fixture
def cache():
    return MemoryCache()


@pytest.fixture
def make(emulator, cache):
    made = []

    def make(key=None, **options):
        provider = OpenAI(MODEL, api_key=key or emulator.openai_key, base_url=emulator.openai_base_url)
        made.append(Embedder(provider, cache=cache, on_narrow="allow", **options))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


def begin(cache, call, *arguments, **options):
    """Calls in a thread; returns once its text is under way. The outcome is in the future."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call, *arguments, **options)
    pool.shutdown(wait=False)
    while not cache.flights._under_way:
        time.sleep(0.001)
    return future


def test_all_who_want_more_than_is_under_way_are_one_request_together(make, emulator, cache):
    embedder = make()
    emulator.faults.append(Fault(delay=0.3, times=2))
    narrow = begin(cache, embedder.embed, ["a"], dimensions=256)
    with ThreadPoolExecutor(20) as pool:
        wide = list(pool.map(lambda _: embedder.embed(["a"], dimensions=1536), range(20)))
    assert len(emulator.requests) == 2
    assert narrow.result().dimensions == 256
    assert all(np.array_equal(result.embeddings, wide[0].embeddings) for result in wide)
    assert cache.flights._under_way == {}


def test_each_miss_counts_once_whatever_else_lands(make, cache):
    embedder = make()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: embedder.embed([f"{i} {j}" for j in range(5)]), range(100)))
    stats = cache.stats()
    assert (stats.entries, stats.hits, stats.misses) == (500, 0, 500)


def test_what_landed_between_look_and_claim_is_told_key_by_key():
    flights = Flights()
    keys = [bytes([i]) * 32 for i in range(4)]
    before = flights.landed
    lost = flights.claim(keys[:2], 8, before, "owner")
    lost.land(0, np.ones(8, dtype=np.float32))
    lost.release()
    assert flights.claim(keys, 8, before, "owner").since == [0, 1]
    assert flights.claim(keys, 8, flights.landed, "owner").since == []
    # More than are remembered: each of them may have landed.
    flights = Flights()
    before = flights.landed
    for i in range(_RECENT + 1):
        flights.claim([i.to_bytes(32, "little")], 8, before, "owner").land(0, np.ones(8, dtype=np.float32))
    assert flights.claim([b"k" * 32], 8, before, "owner").since == [0]


def test_a_key_that_is_refused_is_nobody_elses(make, emulator, cache):
    wrong, right = make(key="sk-wrong", max_attempts=1), make()
    emulator.faults.append(Fault(status=401, delay=0.3, body={"error": {"message": "no"}}, times=1))
    failed = begin(cache, wrong.embed_query, "a")
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(right.embed_query, ["a"] * 8))
    assert isinstance(failed.exception(), AuthenticationError)
    for row in rows:
        np.testing.assert_allclose(row, emulator_vector(f"openai:{MODEL}", "a"), atol=1e-6)
    assert len(emulator.requests) == 2


def test_nobody_waits_longer_than_his_own_deadline(make, emulator, cache):
    patient, hasty = make(deadline=60), make(deadline=0.4)
    emulator.faults.append(Fault(delay=3, times=1))
    begun = time.monotonic()
    slow = begin(cache, patient.embed_query, "a")
    row = hasty.embed_query("a")
    assert time.monotonic() - begun < 2
    np.testing.assert_array_equal(row, slow.result())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nor_in_a_loop(make, emulator, cache, backend):
    import anyio

    patient, hasty = make(deadline=60), make(deadline=0.4)
    emulator.faults.append(Fault(delay=3, times=1))
    begun = time.monotonic()
    slow = begin(cache, patient.embed_query, "a")
    row = anyio.run(hasty.aembed_query, "a", backend=backend)
    assert time.monotonic() - begun < 2
    np.testing.assert_array_equal(row, slow.result())


def first_is_zero(payload):
    import base64

    for row in payload["data"]:
        vector = np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4").copy()
        vector[0] = 0
        vector /= np.linalg.norm(vector)
        row["embedding"] = base64.b64encode(vector.tobytes()).decode()
    return payload


def test_a_row_of_which_nothing_is_left_at_a_narrower_width(make, emulator, cache):
    """The leader has no trouble with it; whoever wanted its first number alone is told what is wrong."""
    embedder = make(max_attempts=1)
    emulator.faults.append(Fault(delay=0.3, edit=first_is_zero, times=10))
    wide = begin(cache, embedder.embed, ["a"])
    with pytest.raises(ResponseContractError, match="all zero"):
        make(max_attempts=1, fetch="native").embed(["a"], dimensions=1)
    assert wide.result().dimensions == 1536


def test_a_stream_in_the_thread_of_a_loop_whose_task_leads(emulator):
    """The task cannot go on while the stream is waited for, so the stream does not wait for the task."""
    code = textwrap.dedent(
        f"""
        import asyncio
        from mrlclient import Embedder, OpenAI
        from mrlclient.cache import MemoryCache

        provider = OpenAI({MODEL!r}, api_key={emulator.openai_key!r}, base_url={emulator.openai_base_url!r})
        embedder = Embedder(provider, cache=MemoryCache())

        async def main():
            leader = asyncio.create_task(embedder.aembed(["a", "b"]))
            while not embedder._engine.cache.flights._under_way:
                await asyncio.sleep(0)
            [chunk] = embedder.embed_iter(["a"])
            assert (chunk.result[0] == (await leader)[0]).all()

        asyncio.run(main())
        """
    )
    emulator.faults.append(Fault(delay=0.2, times=1))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


def test_a_leader_whose_loop_is_gone_is_not_waited_for_for_ever(make, emulator, cache):
    """Its task was never ended: the loop was only stopped."""
    embedder, leader = make(deadline=0.5), make()
    emulator.faults.append(Fault(delay=0.2, times=1))
    loop = asyncio.new_event_loop()
    task = loop.create_task(leader.aembed_query("a"))
    while not cache.flights._under_way:
        loop.run_until_complete(asyncio.sleep(0))
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(embedder.embed_query("a")), daemon=True)
    thread.start()
    thread.join(5)
    assert len(outcomes) == 1
    np.testing.assert_array_equal(loop.run_until_complete(task), outcomes[0])
    loop.run_until_complete(leader.aclose())
    loop.close()
