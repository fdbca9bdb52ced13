"""What a search in two stages takes beside an exact one: `python -m benchmarks.search`. Needs `usearch`.

Wall time of a search, in milliseconds, with as many threads as numpy takes; the median over rounds in which all are
measured in turns, so that a busy machine is as busy for all of them. Rows are unit vectors whose earlier numbers vary
more, as those of a Matryoshka model do. What is kept is the share of the exact search's hits that are found.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from mrlclient import l2_normalize, truncate_dimensions
from mrlclient.evaluate import rank
from mrlclient.evaluate._environment import processor
from mrlclient.search import Funnel

Matrix = NDArray[np.float32]
Search = Callable[[Matrix], NDArray[np.intp]]

K, DEPTH = 10, 200


def unit_rows(chance: np.random.Generator, rows: int, width: int) -> Matrix:
    """Unit rows whose nth number varies as n^-1/2."""
    made = chance.standard_normal((rows, width), dtype=np.float32)
    made *= np.arange(1, width + 1, dtype=np.float32) ** -0.5
    return l2_normalize(made, out=made)


def near(chance: np.random.Generator, matrix: Matrix, count: int) -> Matrix:
    """Queries, each not far from a row."""
    picked = matrix[chance.integers(len(matrix), size=count)]
    return l2_normalize(picked + unit_rows(chance, count, matrix.shape[1]))


def strided(matrix: Matrix, width: int) -> Search:
    """The same without a copy of the prefixes: a view of the matrix, and the rows' lengths at that width."""
    view = matrix[:, :width]
    scales = 1 / np.linalg.norm(view, axis=1)

    def search(queries: Matrix) -> NDArray[np.intp]:
        found = np.empty((len(queries), K), dtype=np.intp)
        for row, query in enumerate(queries):
            shortlist = np.argpartition((view @ query[:width]) * scales, -DEPTH)[-DEPTH:]
            found[row] = shortlist[np.argsort(-(matrix[shortlist] @ query))[:K]]
        return found

    return search


def seconds(search: Search, queries: Matrix) -> float:
    """Seconds of a call."""
    begun = time.perf_counter()
    search(queries)
    return time.perf_counter() - begun


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="What a search in two stages takes.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    chance = np.random.default_rng(0)
    matrix = unit_rows(chance, options.rows, options.width)
    searches: dict[str, Search] = {"exact: matrix @ query, best 10": lambda queries: rank(queries, matrix, K)}
    made: dict[str, tuple[float, int]] = {}
    for width in (64, 128):
        begun = time.perf_counter()
        prepared = Funnel(matrix, shortlist_dimensions=width, depth=DEPTH)
        made[f"Funnel at {width}"] = (time.perf_counter() - begun, options.rows * width * 4)
        searches[f"Funnel at {width}"] = lambda queries, prepared=prepared: prepared.search(queries, K).indices  # type: ignore[misc]
    begun = time.perf_counter()
    index = Index(ndim=64, metric="ip", dtype="f32")
    index.add(np.arange(len(matrix)), truncate_dimensions(matrix, 64))
    over = Funnel(matrix, shortlist_dimensions=64, depth=DEPTH, index=index)
    made["Funnel at 64 over usearch"] = (time.perf_counter() - begun, index.memory_usage)
    searches["Funnel at 64 over usearch"] = lambda queries: over.search(queries, K).indices
    searches["a view of 64, no copy"] = strided(matrix, 64)

    asked = near(chance, matrix, 200)
    right = rank(asked, matrix, K)
    kept = {
        name: np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(search(asked), right, strict=True)])
        for name, search in searches.items()
    }
    # The median of each, over rounds in which all have the same queries.
    medians = {}
    for count, rounds in ((1, options.rounds), (64, max(options.rounds // 6, 1))):
        samples = [near(chance, matrix, count) for _ in range(rounds)]
        taken = [[seconds(search, queries) for search in searches.values()] for queries in samples]
        medians[count] = np.median(taken, axis=0) / count * 1e3
    print(f"# {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"# {' '.join(['python', '-m', 'benchmarks.search', *sys.argv[1:]])}")
    print(f"# {options.rows:,} × {options.width} float32, {K} of {DEPTH}, wall ms a query, medians\n")
    heads = ("one query", "× exact", "of 64", "× exact", "kept", "to make, s", "MB")
    print(f"{'':34}" + "".join(f"{head:>11}" for head in heads))
    for place, name in enumerate(searches):
        one, many = medians[1][place], medians[64][place]
        cells = [f"{one:.2f}", f"{medians[1][0] / one:.1f}", f"{many:.2f}", f"{medians[64][0] / many:.1f}"]
        cells.append(f"{kept[name]:.3f}")
        if name in made:
            cells += [f"{made[name][0]:.2f}", f"{made[name][1] / 1e6:.0f}"]
        print(f"{name:34}" + "".join(f"{cell:>11}" for cell in cells))


if __name__ == "__main__":
    main()
