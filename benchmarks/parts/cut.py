"""Cutting 100,000 vectors of 1536 numbers to 256, and making them unit length again."""

from __future__ import annotations

from benchmarks.bench import Bench, Case
from benchmarks.parts import Part, Section
from benchmarks.tables import missing_row, number, ratio, table

_LABELS = {
    "copy": "`x[:, :256].copy()`, the copy alone",
    "numpy": "`x[:, :256] / np.linalg.norm(x[:, :256], axis=1, keepdims=True)`",
    "ours": "`truncate_dimensions(x, 256)`",
    "ours, out": "`truncate_dimensions(x, 256, out=y)`, into a matrix that is there",
}


def run(bench: Bench) -> Section:
    """Beside a copy and beside plain numpy."""
    case = Case("mrlclient", "cut", {"rows": 5_000 if bench.quick else 100_000, "width": 1536, "to": 256})
    [result] = bench.measure_fresh([case], 1)
    heads = ["", "CPU ms", "× the copy", "× plain numpy"]
    if result.missing:
        return Section({"cut": table(heads, [missing_row(result, len(heads))])}, {})
    [seconds] = result.rounds
    rows = [
        [label, number(seconds[name], 1e-3), *(ratio(seconds[name], seconds[other]) for other in ("copy", "numpy"))]
        for name, label in _LABELS.items()
    ]
    return Section({"cut": table(heads, rows)}, {})


PART = Part(run, ("cut",))
