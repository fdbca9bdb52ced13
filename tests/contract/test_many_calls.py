"""Very many calls at once, against a server that refuses a fifth of them: all are answered, and nothing piles up."""

from __future__ import annotations

import gc
import stat
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import numpy as np
import pytest

from mrlclient import Embedder, OpenAI
from mrlclient.testing import Emulator
from mrlclient.testing.emulator import Fault, emulator_vector

MODEL = "openai:text-embedding-3-small"
THREADS, TASKS = 64, 1000


class Unsteady(Emulator):
    """Refuses every fifth request, by turns with 429 and 503."""

    def __init__(self):
        super().__init__()
        self._count = 0
        self._counting = threading.Lock()

    def _respond(self, request):
        with self._counting:
            self._count += 1
            count = self._count
        if count % 5 == 0:
            self.faults.append(
                Fault(
                    status=429 if count % 10 else 503,
                    headers={"retry-after": "0.01"},
                    when=lambda each: each is request,
                )
            )
        return super()._respond(request)


@pytest.fixture
def unsteady():
    with Unsteady() as emulator:
        yield emulator


def sockets():
    gc.collect()
    return sum(stat.S_ISSOCK(each.stat().st_mode) for each in Path("/proc/self/fd").iterdir() if each.exists())


def calls(emulator, number):
    """Half of the calls from threads, half from tasks, through one embedder; each has a text of its own."""
    provider = OpenAI(
        "text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=60
    )
    wrong = []

    def right(text, row):
        if np.abs(row - emulator_vector(MODEL, text, dimensions=256)).max() > 2e-4:
            wrong.append(text)

    with Embedder(provider, dimensions=256, max_attempts=12, on_narrow="allow") as embedder:
        with ThreadPoolExecutor(THREADS) as pool:
            for text, row in zip(
                texts := [f"thread {i}" for i in range(number // 2)], pool.map(embedder.embed_query, texts), strict=True
            ):
                right(text, row)

        async def main():
            limit = anyio.Semaphore(TASKS)

            async def one(text):
                async with limit:
                    right(text, await embedder.aembed_query(text))

            async with embedder, anyio.create_task_group() as tasks:
                for i in range(number // 2):
                    tasks.start_soon(one, f"task {i}")

        anyio.run(main)
    assert wrong == []


def check(emulator, number):
    before = sockets() if Path("/proc/self/fd").exists() else None
    calls(emulator, number)
    answered = Counter(text for request in emulator.requests if request.status == 200 for text in request.body["input"])
    assert len(answered) == number // 2 * 2
    assert set(answered.values()) == {1}, "a text was paid for twice"
    refused = sum(request.status in (429, 503) for request in emulator.requests)
    assert refused >= number // 5
    assert len({request.connection for request in emulator.requests}) <= 4 * 64, "connections are kept, and bounded"
    if before is not None:
        assert sockets() <= before + 2, "sockets are left over"


def test_many_calls(unsteady):
    check(unsteady, 600)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_ten_thousand_calls(unsteady):
    import resource

    check(unsteady, 400)
    unsteady.clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check(unsteady, 10_000)
    # The emulator's log of the requests is in this process, too.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024
