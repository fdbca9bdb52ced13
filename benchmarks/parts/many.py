"""100,000 texts from a server that takes 50 ms for each request: who keeps it busy."""

from __future__ import annotations

import math

from benchmarks.bench import Bench, Case, Measured
from benchmarks.parts import Part, Section
from benchmarks.tables import missing_row, number, table

BATCH = 256
LATENCY = 0.05
_FAST: tuple[str, ...] = ("httpx2", "mrlclient", "async", "pyreqwest")
_SLOW: tuple[str, ...] = ("openai-async", "voyageai-async")


def run(bench: Bench) -> Section:
    """32 requests under way, and 8."""
    bench.configure(LATENCY)
    counts = dict.fromkeys(_FAST, 100_000) | dict.fromkeys(_SLOW, 25_600)
    if bench.quick:
        counts = dict.fromkeys(counts, 2_560)
    rounds = min(bench.rounds, 3)
    wide, narrow = (
        bench.measure(
            (
                Case(name, "many", {"count": counts[name]}, settings={"batch": BATCH, "concurrency": concurrency})
                for name in bench.kept(list(counts))
            ),
            rounds,
        )
        for concurrency in (32, 8)
    )
    bench.configure()
    heads = ["Client", "Texts"]
    for concurrency in (32, 8):
        heads += [f"{concurrency} under way: texts/s", "of what the latency allows", "Connections"]
    heads.append("CPU ms per 1,000 texts")
    rows = []
    for left, right in zip(wide, narrow, strict=True):
        if left.missing:
            rows.append(missing_row(left, len(heads)))
            continue
        count = left.case.arguments["count"]
        cpu = left.median("cpu")
        assert cpu is not None
        rows.append([left.label, f"{count:,}", *_cells(left, 32), *_cells(right, 8), number(cpu / count, 1e-6)])
    return Section({"many": table(heads, rows)}, {})


def _cells(result: Measured, concurrency: int) -> list[str]:
    count, wall = result.case.arguments["count"], result.median("wall")
    assert wall is not None
    least = math.ceil(math.ceil(count / BATCH) / concurrency) * LATENCY
    return [f"{count / wall:,.0f}", f"{least / wall:.0%}", f"{result.connections}"]


PART = Part(run, ("many",))
