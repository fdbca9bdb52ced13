"""A million texts through `embed_iter`: the memory must not grow with their number."""

from __future__ import annotations

from benchmarks.bench import Bench, Case
from benchmarks.parts import Part, Section
from benchmarks.tables import missing_row, table

COUNT = 1_000_000
SETTLED = 10_000
CHUNK = 1024


def run(bench: Bench) -> Section:
    """Memory after 10,000 texts, and from there to the end."""
    bench.configure()
    arguments = {"count": 20_480 if bench.quick else COUNT, "size": CHUNK, "settle": SETTLED}
    names = bench.kept(["mrlclient"])
    measured = bench.measure_fresh((Case(name, "stream", arguments, settings={"width": 64}) for name in names), 1)
    heads = ["Client", "MB after 10,000 texts", "least", "most", "at the end", "Requests", "Texts sent", "CPU s"]
    rows = []
    for result in measured:
        if result.missing:
            rows.append(missing_row(result, len(heads)))
            continue
        [seen] = result.rounds
        rows.append(
            [
                result.label,
                *(f"{seen[name] / 1e6:.1f}" for name in ("early", "least", "most", "late")),
                f"{seen['server requests']:,}",
                f"{seen['server texts']:,}",
                f"{seen['cpu']:.1f}",
            ]
        )
    return Section({"stream": table(heads, rows)}, {})


PART = Part(run, ("stream",))
