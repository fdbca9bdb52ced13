"""100,000 texts from a server that takes 50 ms for each request: who keeps it busy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.bench import Bench, Case, Measured
from benchmarks.parts import Part, Section
from benchmarks.tables import missing_row, number, table

BATCH = 256
LATENCY = 0.05
#: To glibc: memory that was freed stays with the process. A result is larger than what it would keep, and where a
#: virtual machine hands free memory back to its host, to get it again takes longer than all that is measured.
_KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}
_FAST: tuple[str, ...] = ("httpx2", "mrlclient", "async")
_SLOW: tuple[str, ...] = ("openai-async", "voyageai-async")


def run(bench: Bench) -> Section:
    """32 requests under way, and 8."""
    bench.configure(LATENCY)
    wide, narrow = _measure(bench, (*_FAST, *_SLOW), 32), _measure(bench, _FAST, 8)
    bench.configure()
    return Section({"many": _table(wide, 32), "many-narrow": _table(narrow, 8)}, {})


def _measure(bench: Bench, names: Sequence[str], concurrency: int) -> list[Measured]:
    settings = {"batch": BATCH, "concurrency": concurrency}
    cases = []
    for name in bench.kept(names):
        count = 2_560 if bench.quick else 25_600 if name in _SLOW else 100_000
        cases.append(Case(name, "many", {"count": count}, settings=settings, variables=_KEEPING))
    return bench.measure(cases, min(bench.rounds, 3), warm=False)


def _table(results: Sequence[Measured], concurrency: int) -> str:
    heads = ["Client", "Texts", "Texts/s", "Of what the latency allows", "CPU ms per 1,000 texts", "Connections"]
    rows = []
    for result in results:
        wall, cpu = result.median("wall"), result.median("cpu")
        if wall is None or cpu is None:
            rows.append(missing_row(result, len(heads)))
            continue
        count = result.case.arguments["count"]
        least = math.ceil(math.ceil(count / BATCH) / concurrency) * LATENCY
        row = [result.label, f"{count:,}", f"{count / wall:,.0f}", f"{least / wall:.0%}", number(cpu / count, 1e-6)]
        rows.append([*row, f"{result.median('server connections'):.0f}"])
    return table(heads, rows)


PART = Part(run, ("many", "many-narrow"))
