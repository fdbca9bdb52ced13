"""What runs in a client's own environment: makes the client, and measures a round of it when it is told to."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.clients import Client, Settings
from benchmarks.processes import answer, pin

_STATUS = Path("/proc/self/status")


def make_texts(count: int) -> list[str]:
    """Different texts of 64 characters."""
    return [f"{i:7d} A text of sixty-four characters, as short as titles are.".ljust(64, ".") for i in range(count)]


class Runner:
    """The rounds of one client."""

    def __init__(self, client: Any, settings: Settings) -> None:
        self._client: Any = client
        self._width = settings.width

    def check(self) -> None:
        """Embeds three texts and one, so that nothing is measured which does not work."""
        rows = self._client.bulk(make_texts(3))
        assert len(rows) == 3
        for row in (*rows, self._client.one("a query")):
            assert len(row) == self._width, len(row)
            assert abs(sum(float(number) ** 2 for number in row) - 1) < 1e-3

    def bulk(self, count: int) -> dict[str, float]:
        """CPU and wall seconds of one call."""
        return self._timed(lambda: self._client.bulk(texts), (texts := make_texts(count)))

    def many(self, count: int) -> dict[str, float]:
        """CPU and wall seconds of very many texts."""
        return self._timed(lambda: self._client.many(texts), (texts := make_texts(count)))

    def one(self, repeat: int) -> dict[str, float]:
        """CPU seconds of a call with one text, the same again and again; of ten stretches the fastest.

        Whoever else is on the machine only ever adds to so short a time; `timeit` takes the least of several, too.
        """
        text, calls = "How much does a call cost that asks for one vector only?", max(repeat // 10, 1)
        self._client.one(text)
        stretches = []
        for _ in range(10):
            begun = time.process_time()
            for _ in range(calls):
                self._client.one(text)
            stretches.append((time.process_time() - begun) / calls)
        return {"cpu": min(stretches)}

    def layers(self, count: int, repeat: int) -> dict[str, float]:
        """Seconds of a call in each layer, as the profiler sees it."""
        from benchmarks.profiling import profile

        texts = make_texts(count)
        work = (lambda: self._client.one(texts[0])) if count == 1 else (lambda: self._client.bulk(texts))
        work()
        return profile(work, repeat)

    def first(self) -> dict[str, float]:
        """CPU seconds of this process until it has an answer, its start included."""
        self._client.one("the first text")
        return {"cpu": time.process_time()}

    def growth(self, count: int) -> dict[str, float | None]:
        """Bytes by which memory grows at most, in a process that has made one small call."""
        texts = make_texts(count)
        self._client.bulk(texts[:1])
        gc.collect()
        if not _forget_peak():
            return {"growth": None}
        before = _memory("VmRSS")
        rows = self._client.bulk(texts)
        grown = _memory("VmHWM") - before
        assert len(rows) == count
        return {"growth": grown}

    def stream(self, count: int, size: int, settle: int) -> dict[str, Any]:
        """Memory while texts go through: at first, and from then on; every second text is the one before."""

        def texts() -> Iterator[str]:
            for i in range(count):
                yield f"text {i // 2}"

        done, memory = 0, []
        begun = time.process_time()
        for rows in self._client.stream(texts(), size):
            done += rows
            if done >= settle:
                memory.append(_memory("VmRSS"))
        seconds = time.process_time() - begun
        assert done == count
        return {"cpu": seconds, "early": memory[0], "late": memory[-1], "least": min(memory), "most": max(memory)}

    def cut(self, rows: int, width: int, to: int) -> dict[str, float]:
        """CPU seconds to cut vectors and make them unit length: by us, by numpy, and of a copy; each one's fastest."""
        import numpy as np

        from mrlclient.vectors import truncate_dimensions

        vectors = np.random.default_rng(0).standard_normal((rows, width), dtype=np.float32)
        out = np.empty((rows, to), dtype=np.float32)

        def naive() -> Any:
            short = vectors[:, :to]
            return short / np.linalg.norm(short, axis=1, keepdims=True)

        works: dict[str, Callable[[], Any]] = {
            "copy": lambda: vectors[:, :to].copy(),
            "numpy": naive,
            "ours": lambda: truncate_dimensions(vectors, to),
            "ours, out": lambda: truncate_dimensions(vectors, to, out=out),
        }
        seconds = dict.fromkeys(works, float("inf"))
        for _ in range(15):
            for name, work in works.items():
                begun = time.process_time()
                work()
                seconds[name] = min(seconds[name], time.process_time() - begun)
        return seconds

    def _timed(self, work: Callable[[], Any], texts: list[str]) -> dict[str, float]:
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        rows = work()
        spent = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        assert len(rows) == len(texts)
        return spent


def _forget_peak() -> bool:
    """Sets the peak of this process's memory to what it has now; whether the system lets it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _memory(name: str) -> int:
    """Bytes of this process, as the system counts them."""
    for line in _STATUS.read_text("ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {name}")


def _start() -> tuple[None, dict[str, Callable[..., Any]]]:
    module, core, *values = json.loads(sys.argv[1])
    pin(core)
    settings = Settings(*values)
    client: Client = importlib.import_module(f"benchmarks.clients.{module}").make(settings)
    runner = Runner(client, settings)
    names = ("check", "bulk", "many", "one", "first", "layers", "growth", "stream", "cut")
    return None, {name: getattr(runner, name) for name in names}


if __name__ == "__main__":
    answer(_start)
    # Some clients leave threads behind that nobody ends.
    sys.stderr.flush()
    os._exit(0)
