"""Where the time of mrlclient's own calls goes: many texts, and one."""

from __future__ import annotations

from benchmarks.bench import Bench, Case, Measured
from benchmarks.parts import Part, Section
from benchmarks.parts.bulk import COUNT
from benchmarks.tables import missing_row, number, table


def run(bench: Bench) -> Section:
    """By layer, under the profiler."""
    bench.configure()
    many = Case("mrlclient", "layers", {"count": 100 if bench.quick else COUNT, "repeat": 5})
    one = Case("mrlclient", "layers", {"count": 1, "repeat": 20 if bench.quick else 1000})
    [wide], [single] = bench.measure_fresh([many], 1), bench.measure_fresh([one], 1)
    return Section({"where-bulk": _table(wide, 1e-3, "ms"), "where-one": _table(single, 1e-6, "µs")}, {})


def _table(result: Measured, unit: float, name: str) -> str:
    heads = ["Layer", f"CPU {name}", "Share"]
    if result.missing:
        return table(heads, [missing_row(result, len(heads))])
    [answer] = result.rounds
    seconds = {layer: spent for layer, spent in answer.items() if not layer.startswith("server ")}
    whole = sum(seconds.values())
    ranked = sorted(seconds.items(), key=lambda layer: -layer[1])
    return table(heads, [[layer, number(spent, unit), f"{spent / whole:.0%}"] for layer, spent in ranked])


PART = Part(run, ("where-bulk", "where-one"))
