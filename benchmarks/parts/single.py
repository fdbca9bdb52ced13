"""One text a call: the path of a query."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bench import Bench, Case, Measured
from benchmarks.parts import Part, Section
from benchmarks.tables import missing_row, number, table

_PLAIN = (
    "limit",
    "httpx2",
    "mrlclient",
    "plain",
    "openai",
    "voyageai",
    "pydantic-ai",
    "langchain-openai",
    "litellm",
)
_SECURE = ("httpx2", "mrlclient", "openai", "catsu")
_CACHED = ("memory", "sqlite")


def run(bench: Bench) -> Section:
    """Over HTTP, over TLS, and from the caches."""
    bench.configure()
    scale = 10 if bench.quick else 1
    plain = bench.measure(Case(name, "one", {"repeat": 200 // scale}) for name in bench.kept(_PLAIN))
    secure = bench.measure(Case(name, "one", {"repeat": 200 // scale}, tls=True) for name in bench.kept(_SECURE))
    cached = bench.measure(Case(name, "one", {"repeat": 2000 // scale}) for name in bench.kept(_CACHED))
    bars = {result.label: 1e6 * cost for result in (*cached, *plain) if (cost := result.median("cpu")) is not None}
    tables = {"one": _table(plain), "one-tls": _table(secure), "one-cached": _table(cached)}
    return Section(tables, {"CPU µs for one query of 1536 numbers": bars})


def _table(results: Sequence[Measured]) -> str:
    cost = {result.case.contender: result.median("cpu") for result in results}
    base = cost.get("httpx2")
    heads = ["Client", "CPU µs"] + (["more than httpx2 by hand, µs"] if base is not None else [])
    rows = []
    for result in results:
        own = cost[result.case.contender]
        if own is None:
            rows.append(missing_row(result, len(heads)))
            continue
        row = [result.label, number(own, 1e-6)]
        if base is not None:
            row.append(f"{(own - base) * 1e6:+,.0f}")
        rows.append(row)
    return table(heads, rows)


PART = Part(run, ("one", "one-tls", "one-cached"))
