"""2,048 texts in one call: what the client's own work costs, and how its memory grows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bench import Bench, Case, Measured
from benchmarks.parts import Part, Section
from benchmarks.tables import missing_row, number, ratio, table

COUNT = 2048
#: Texts in a call of those that take seconds for more, and of everything beside them in a table of theirs.
FEW = 256

_PEERS = ("openai", "voyageai", "pydantic-ai", "langchain-openai")
_OURS = ("mrlclient", "plain")
_SECURE = ("httpx2", "mrlclient", "openai", "catsu")
#: Clients that get lists of numbers whatever others ask for.
_SLOW = frozenset({"litellm", "openai-float"})


def run(bench: Bench) -> Section:
    """Base64 at two widths, lists of numbers, TLS."""
    bench.configure()
    small = _measure(bench, ("limit", "httpx2", *_OURS, *_PEERS, "litellm"), 1536)
    large = [] if bench.quick else _measure(bench, ("limit", "httpx2", *_OURS, *_PEERS), 3072)
    secure = _measure(bench, _SECURE, 1536, tls=True)
    growth = _growth(bench, ("limit", "httpx2", *_OURS, *_PEERS))
    secure_growth = _growth(bench, _SECURE, tls=True)
    bench.configure(floats=True)
    floats = _measure(bench, (*_OURS, "openai-float", "litellm"), 1536, few=True)
    bench.configure()
    tables = {
        "bulk-1536": _table(small, growth),
        "bulk-3072": _table(large),
        "bulk-tls": _table(secure, secure_growth),
        "bulk-lists": _table(floats),
        "bulk-memory": _memory_line(bench),
    }
    bars = {result.label: 1e6 * cost for result in small if (cost := _cost(result)) is not None}
    return Section(tables, {"CPU ms per 1,000 texts of 1536 numbers": bars})


def _measure(bench: Bench, names: Sequence[str], width: int, *, tls: bool = False, few: bool = False) -> list[Measured]:
    cases = []
    for name in bench.kept(names):
        count = FEW if few or name in _SLOW or bench.quick else COUNT
        cases.append(Case(name, "bulk", {"count": count}, tls, {"width": width}))
    return bench.measure(cases)


def _growth(bench: Bench, names: Sequence[str], *, tls: bool = False) -> dict[str, float | None]:
    cases = [Case(name, "growth", {"count": FEW if bench.quick else COUNT}, tls) for name in bench.kept(names)]
    measured = bench.measure_fresh(cases, min(bench.rounds, 3))
    return {result.case.contender: result.median("growth") for result in measured}


def _cost(result: Measured) -> float | None:
    """CPU seconds a text."""
    seconds = result.median("cpu")
    return None if seconds is None else seconds / result.case.arguments["count"]


def _table(results: Sequence[Measured], growth: dict[str, float | None] | None = None) -> str:
    if not results:
        return "Not measured."
    cost = {result.case.contender: _cost(result) for result in results}
    heads = ["Client", "CPU ms per 1,000 texts"]
    others = {"limit": "× raw socket", "httpx2": "× httpx2 by hand", "mrlclient": "× mrlclient"}
    others = {name: head for name, head in others.items() if name in cost}
    heads += others.values()
    if growth is not None:
        heads.append("Memory grows by, MB")
    rows = []
    for result in results:
        if result.missing:
            rows.append(missing_row(result, len(heads)))
            continue
        own = cost[result.case.contender]
        assert own is not None
        row = [result.label, number(own, 1e-6), *(ratio(own, cost[name]) for name in others)]
        if growth is not None:
            row.append(number(growth.get(result.case.contender), 1e6))
        rows.append(row)
    return table(heads, rows)


def _memory_line(bench: Bench) -> str:
    count = FEW if bench.quick else COUNT
    body, lists = (bench.answer_size(count, 1536, floats=floats) / 1e6 for floats in (False, True))
    matrix = count * 1536 * 4 / 1e6
    return (
        f"The answer and the matrix that is made of it are {body:.1f} + {matrix:.1f} = {body + matrix:.1f} MB; "
        f"an answer with lists of numbers is {lists:.1f} MB."
    )


PART = Part(run, ("bulk-1536", "bulk-3072", "bulk-tls", "bulk-lists", "bulk-memory"))
