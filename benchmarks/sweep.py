"""What a sweep takes beside embedding: `python -m benchmarks.sweep`.

Vectors are made, not embedded: unit rows whose earlier numbers vary more, as those of a Matryoshka model do, and
queries not far from the documents that answer them. Memory is what numpy and Python hold at most, by `tracemalloc`, in
a run of its own, because it slows what it counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import tracemalloc

import numpy as np
from numpy.typing import NDArray

from mrlclient import Embedder, ModelSpec, l2_normalize
from mrlclient.evaluate import Outcome, SearchData, sweep
from mrlclient.evaluate._environment import processor
from mrlclient.operations import Answer
from mrlclient.packing import Packing
from mrlclient.plan import Batch
from mrlclient.providers.base import LocalProvider


class Prepared(LocalProvider):
    """A model whose vectors are known: the text "17" is the row 17."""

    name = "prepared"

    def __init__(self, rows: NDArray[np.float32], name: str = "rows", *, matryoshka: bool = True) -> None:
        super().__init__(
            ModelSpec(provider="prepared", name=name, native_dimensions=rows.shape[1], matryoshka=matryoshka)
        )
        self._rows = rows

    @property
    def packing(self) -> Packing:
        """A few rows at a time."""
        return Packing(max_inputs=1024, max_tokens=1 << 30, serial=True)

    def load(self) -> NDArray[np.float32]:
        """The rows."""
        return self._rows

    def compute(self, model: NDArray[np.float32], batch: Batch) -> Answer:
        """The rows of these numbers."""
        return Answer(model[[int(text) for text in batch.texts]], len(batch.texts))


def prepared(documents: int, queries: int, width: int, seed: int = 0) -> tuple[NDArray[np.float32], SearchData]:
    """Rows, the documents first, and the data set that their numbers are the texts of."""
    chance = np.random.default_rng(seed)
    rows = chance.standard_normal((documents + queries, width), dtype=np.float32)
    rows *= np.arange(1, width + 1, dtype=np.float32) ** -0.5
    answers = chance.integers(documents, size=queries)
    rows[documents:] += rows[answers]
    l2_normalize(rows, out=rows)
    names = [str(row) for row in range(len(rows))]
    qrels = [{int(answer): 1.0} for answer in answers]
    fields = [{"group": "even" if query % 2 == 0 else "odd"} for query in range(queries)]
    return rows, SearchData(
        "made", names[:documents], names[:documents], names[documents:], names[documents:], qrels, fields
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="What a sweep takes beside embedding.")
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--dimensions", type=int, default=1024)
    options = parser.parse_args()
    rows, data = prepared(options.documents, options.queries, options.dimensions)
    widths = [options.dimensions * eighths // 8 // 8 * 8 for eighths in range(1, 9)]
    matrix = options.documents * options.dimensions * 4

    def run() -> Outcome:
        with Embedder(Prepared(rows)) as embedder:
            return sweep(embedder, data, widths=widths, group_by="group")

    begun, used = time.perf_counter(), time.process_time()
    outcome = run()
    wall, cpu = time.perf_counter() - begun, time.process_time() - used
    embedding = outcome.models[0].embedding.seconds
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    print(f"# {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"# {' '.join(['python', '-m', 'benchmarks.sweep', *sys.argv[1:]])}")
    points = len(outcome.models[0].points)
    print(f"# {options.documents:,} documents, {options.queries:,} queries, {len(widths)} widths, {points} points\n")
    print(f"seconds after embedding  {wall - embedding:8.1f}  ({cpu:.1f} of CPU)")
    print(f"memory at most, MB       {peak / 1e6:8.1f}  ({peak / matrix:.2f} times the matrix of all documents)")


if __name__ == "__main__":
    main()
