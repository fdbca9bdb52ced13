"""Very many calls at once, against a server that refuses a fifth of them: all are answered, and nothing piles up."""

from __future__ import annotations

import gc
import resource
import stat
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
    """Refuses every fifth request, by turns with 429 and 503. Its log is short, so that it takes no memory to speak of.

    Attributes:
        seen: Text, status and connection of each request.
    """

    def __init__(self):
        super().__init__()
        self.seen = []
        self._count = 0

    def _respond(self, request):
        with self._lock:
            self._count += 1
            count = self._count
            self._requests.clear()
        if count % 5 == 0:
            status = 429 if count % 10 else 503
            fault = Fault(status=status, headers={"retry-after": "0.01"}, when=lambda each: each is request)
            self.faults.append(fault)
        answer, fault = super()._respond(request)
        self.seen.append((request.body["input"][0], answer.status, request.connection))
        return answer, fault


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
            remaining = (f"task {i}" for i in range(number // 2))

            async def work():
                for text in remaining:
                    right(text, await embedder.aembed_query(text))

            async with embedder, anyio.create_task_group() as tasks:
                for _ in range(TASKS):
                    tasks.start_soon(work)

        anyio.run(main)
    assert wrong == []


def check(emulator, number):
    emulator.seen.clear()
    before = sockets() if Path("/proc/self/fd").exists() else None
    calls(emulator, number)
    answered = Counter(text for text, status, _ in emulator.seen if status == 200)
    assert len(answered) == number // 2 * 2
    assert set(answered.values()) == {1}, "a text was paid for twice"
    assert sum(status in (429, 503) for _, status, _ in emulator.seen) >= number // 5
    assert len({connection for _, _, connection in emulator.seen}) <= 4 * 64, "connections are kept, and bounded"
    if before is not None:
        assert sockets() <= before + 2, "sockets are left over"


def test_many_calls(unsteady):
    check(unsteady, 600)


def resident():
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_ten_thousand_calls(unsteady):
    # What is kept on purpose is there: the emulator's vectors, 4,096 of them.
    for i in range(4_200):
        emulator_vector(MODEL, f"text {i}")
    memory = []
    for _ in range(5):
        check(unsteady, 2 * TASKS)
        memory.append(resident())
    # The first rounds bring as many threads and tasks as there ever are.
    assert memory[4] - memory[1] < 16 * 2**20, [bytes_ >> 20 for bytes_ in memory]
