"""How often an interval holds the truth, and how often advice is wrong: `python -m benchmarks.intervals`.

From the losses of very many queries, whose mean is known, samples are drawn again and again; of each sample several
methods say where that mean is. Half of the losses are made; the others are those of WordLlama on the docstrings of
Python's standard library, taken for all that there are. `--write` puts the tables on the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.page import filled
from mrlclient import Embedder
from mrlclient.evaluate import SearchData, docstrings
from mrlclient.evaluate._embedding import embed_once
from mrlclient.evaluate._measuring import measure
from mrlclient.evaluate.statistics import losses

Array = NDArray[np.float64]
#: Of each sample the two ends of a 95 % interval, and a one-sided upper bound of 95 %.
Ends = tuple[Array, Array, Array]

QUERIES = (50, 100, 300, 1000)
#: Samples that are drawn, so many at a time, and bootstrap samples of each.
SAMPLES, _BLOCK, _RESAMPLES = 10_000, 1000, 1000
PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "sweep.md"
#: Where the tolerance is so many standard errors above the loss, a test that knew them all would pass in 80 %.
_POWER = stats.norm.ppf(0.95) + stats.norm.ppf(0.8)

#: Scores of a known-item search by rank, and how far a query falls by narrowing.
_BY_RANK = np.array([1 / np.log2(rank + 1) if rank <= 10 else 0.0 for rank in range(1, 40)])


def population(seed: int, harm: float, size: int = 100_000) -> Array:
    """What each query of a large population loses at a width: most of them nothing, some much, some gain."""
    draw = np.random.default_rng(seed)
    before = np.minimum(draw.geometric(0.35, size) - 1, len(_BY_RANK) - 1)
    moved = draw.random(size) < 0.15 + harm
    step = np.where(moved, np.rint(draw.normal(harm * 4, 2.0, size)), 0).astype(int)
    return np.asarray(_BY_RANK[before] - _BY_RANK[np.clip(before + step, 0, len(_BY_RANK) - 1)])


def real() -> dict[str, Array]:
    """What WordLlama's sizes lose on docstrings."""
    data = SearchData.of(docstrings())
    places = np.random.default_rng(0).permutation(len(data.documents))
    with Embedder("wordllama:l2-supercat-256") as embedder:
        embedded = embed_once(embedder, data.documents, places, data.queries, progress=False)
    judged = [{int(places[document]): grade for document, grade in grades.items()} for grades in data.qrels or ()]
    found: dict[str, Array] = {}
    for qrels, name in ((judged, "ndcg@10"), (None, "overlap@10")):
        measured = measure(
            embedded,
            qrels,
            (256, 192, 128, 64),
            ("float32", "int8", "binary"),
            rescore_depth=100,
            references=False,
            funnel=False,
            seed=0,
            tell=lambda _: None,
        )
        full = measured.sizes[0].scores[name]
        for size in measured.sizes[1:]:
            rescored = ", rescored" if size.rescored else ""
            found[f"{name}: {size.dimensions} × {size.dtype}{rescored}"] = full - size.scores[name]
    return found


def populations() -> dict[str, Array]:
    """Losses of all kinds: sparse, lopsided and dense."""
    draw = np.random.default_rng(9)
    measured = real()
    return {
        **{f"made, harm {harm:g}": population(1, harm) for harm in (0.02, 0.05, 0.1, 0.2, 0.3)},
        "made, all queries a little": draw.normal(0.03, 0.1, 100_000),
        "made, 2% lose all": np.repeat([1.0, 0.0], [2000, 98_000]),
        **{
            name: measured[name]
            for name in (
                "ndcg@10: 192 × float32",
                "ndcg@10: 128 × float32",
                "ndcg@10: 64 × float32",
                "ndcg@10: 256 × int8",
                "ndcg@10: 192 × binary, rescored",
                "ndcg@10: 256 × binary, rescored",
                "overlap@10: 128 × float32",
                "overlap@10: 256 × binary, rescored",
            )
        },
    }


def ours(values: Array, seed: int) -> dict[str, Ends]:
    """The two ends of the interval that a sweep shows of the mean of each row (p, n), and the bound that it goes by."""
    found, bounds = losses(values, alpha=0.05, flips=1, seed=seed)
    low, high = ([getattr(loss, end) for loss in found] for end in ("low", "high"))
    return {"ours": (np.array(low), np.array(high), bounds)}


def all_methods(values: Array, seed: int) -> dict[str, Ends]:
    """The same by each method."""
    count = values.shape[1]
    means, errors = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(count)
    draw = np.random.default_rng(seed)
    times = draw.multinomial(count, np.full(count, 1 / count), _RESAMPLES).T
    centred = values - means[:, None]
    moved = centred @ times / count
    spread = np.sqrt(np.maximum(centred**2 @ times / count - moved**2, 0) * count / (count - 1))
    students = np.sort(moved / np.maximum(spread / np.sqrt(count), 1e-9), axis=1)
    bias = stats.norm.ppf(np.clip((moved < 0).mean(axis=1), 1 / _RESAMPLES, 1 - 1 / _RESAMPLES))
    acceleration = np.nan_to_num(stats.skew(values, axis=1)) / (6 * np.sqrt(count))
    moved.sort(axis=1)

    def corrected(level: float) -> Array:
        at = bias + stats.norm.ppf(level)
        return means + _quantile(moved, stats.norm.cdf(bias + at / np.maximum(1 - acceleration * at, 1e-3)))

    methods: dict[str, Callable[[float], Array]] = {
        "percentiles": lambda level: means + _quantile(moved, level),
        "BCa": corrected,
        "bootstrap-t": lambda level: means - _quantile(students, 1 - level) * errors,
        "Student's": lambda level: means + stats.t.ppf(level, count - 1) * errors,
    }
    found = {name: (end(0.025), end(0.975), end(0.95)) for name, end in methods.items()}
    return found | ours(values, seed)


def _quantile(rows: Array, level: float | Array) -> Array:
    """Of sorted rows, each at its own level."""
    places = np.broadcast_to(np.rint(np.asarray(level) * (rows.shape[1] - 1)).astype(int), len(rows))
    return np.asarray(rows[np.arange(len(rows)), places])


def simulated(
    everybody: Array, queries: int, samples: int, methods: Callable[[Array, int], dict[str, Ends]] = all_methods
) -> dict[str, tuple[float, float, float]]:
    """For each method the coverage of its 95 % intervals, and how often a size is said to be enough.

    First where its loss is that of the tolerance, which may happen in 5 %; then where it is well below.
    """
    truth = float(everybody.mean())
    room = _POWER * float(everybody.std()) / np.sqrt(queries)
    blocks = max(samples // _BLOCK, 1)
    sums: dict[str, Array] = {}
    for block in range(blocks):
        values = np.random.default_rng([block, queries]).choice(everybody, (min(samples, _BLOCK), queries))
        for name, (low, high, bound) in methods(values, block).items():
            # Means that are equal may differ by rounding.
            held = (low <= truth + 1e-9) & (truth - 1e-9 <= high)
            shares = [held.mean(), (bound < truth - 1e-9).mean(), (bound <= truth + room).mean()]
            sums[name] = sums.get(name, np.zeros(3)) + shares
    return {name: tuple((each / blocks).tolist()) for name, each in sums.items()}


def tables(found: Mapping[tuple[str, int], Mapping[str, tuple[float, float, float]]]) -> list[str]:
    """Three tables, a row for each kind of losses; what is outside the bars is bold."""
    names = list(dict.fromkeys(name for name, _ in found))
    methods = list(next(iter(found.values())))
    bars = (
        ("Coverage of 95 % intervals, %", 93.0, 97.0),
        ("Said to be enough where the loss is the tolerance, %", 0.0, 5.5),
        ("Said to be enough where 80 % could be, %", 0.0, 100.0),
    )
    lines = []
    for place, (title, low, high) in enumerate(bars):
        lines += [f"| {title} | {' | '.join(methods)} |", f"| --- |{' --- |' * len(methods)}"]
        for name in names:
            cells = []
            for method in methods:
                shares = [100 * found[name, queries][method][place] for queries in QUERIES]
                figures = [f"{share:.0f}" if place == 2 else f"{share:.1f}" for share in shares]
                cells.append(
                    " · ".join(figure if low <= float(figure) <= high else f"**{figure}**" for figure in figures)
                )
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return lines[:-1]


def main() -> None:
    """Simulates, prints and writes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.intervals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"of each number of queries (default: {SAMPLES})")
    parser.add_argument("--write", action="store_true", help="write the tables to the page")
    options = parser.parse_args()
    found = {
        (name, queries): simulated(everybody, queries, options.samples)
        for name, everybody in populations().items()
        for queries in QUERIES
    }
    lines = tables(found)
    print("\n".join(lines))
    if options.write:
        page = PAGE.read_text("utf-8")
        PAGE.write_text(filled(page, {"intervals": "\n".join(["", *lines, ""])}), "utf-8")


if __name__ == "__main__":
    main()
