"""What types and widths keep of a search, and what ranges do to int8: `python -m benchmarks.quantize`.

nDCG@10 of WordLlama on the docstrings of this Python's standard library; the figures of `docs/how-to/quantize.md`.
Wall time of scoring is the median of rounds in which all types are measured in turns.
"""

from __future__ import annotations

import platform
import time
import warnings
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from mrlclient import ClippingWarning, Embedder, l2_normalize
from mrlclient.evaluate import docstrings, ndcg
from mrlclient.evaluate._environment import processor
from mrlclient.quantize import Quantized, bytes_per_vector, calibrate, dequantize, quantize, scores
from mrlclient.search import Funnel, top_k

Matrix = NDArray[np.float32]

WIDTHS = (256, 128, 64)
ROWS, ROUNDS = 100_000, 20


def by_dimension(vectors: Matrix, sample: Matrix) -> tuple[Matrix, float]:
    """What codes of int8 would stand for with a range for each dimension, and the share of the numbers outside."""
    low, high = sample.min(axis=0), sample.max(axis=0)
    steps = np.rint((vectors - low) / (high - low) * 255)
    inside = np.clip(steps, 0, 255)
    return low + inside * ((high - low) / 255), float(np.mean(inside != steps))


def main() -> None:
    """Measures and prints."""
    collection = docstrings()
    qrels = collection.qrels
    with Embedder() as embedder:
        documents = embedder.embed(collection.documents, input_type="document")
        queries = embedder.embed(collection.queries, input_type="query")

    def quality(found: NDArray[np.intp]) -> float:
        return fmean(ndcg(dict(enumerate(found)), qrels).values())

    def best(asked: Matrix | Quantized, rows: Quantized) -> NDArray[np.intp]:
        return top_k(scores(asked, rows), 10)

    print(f"{len(documents)} documents, {len(queries)} queries, Python {platform.python_version()}")
    print("| | bytes | nDCG@10 |\n|---|--:|--:|")
    for width in WIDTHS:
        rows, asked = documents.at(width), queries.at(width)
        for dtype in ("float32", "float16", "int8", "ubinary"):
            made = quantize(rows, dtype, calibrate(rows) if dtype == "int8" else None)
            print(f"| {dtype} × {width} | {made.bytes_per_vector} | {quality(best(asked, made)):.4f} |")
            if dtype == "ubinary":
                print(f"| the same, bits of the queries | | {quality(best(quantize(asked, dtype), made)):.4f} |")
                for depth in (50, 200):
                    found = Funnel(documents, quantized=made, depth=depth).search(queries, 10).indices
                    print(f"| the same, best {depth} put in order by floats | | {quality(found):.4f} |")

    print("\nint8 against float32, documents and queries in int8; the worst of five samples")
    print("| width | ranges | found with | nDCG@10 | numbers outside |\n|--:|---|--:|--:|--:|")
    for width in WIDTHS:
        rows, asked = documents.at(width), queries.at(width)
        floats = quality(best(asked, quantize(rows, "float32")))
        for size in (100, len(rows)):
            one: list[tuple[float, float]] = []
            each: list[tuple[float, float]] = []
            for seed in range(5 if size < len(rows) else 1):
                sample = rows[np.random.default_rng(seed).permutation(len(rows))[:size]]
                ranges = calibrate(sample)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ClippingWarning)
                    ours, theirs = quantize(rows, "int8", ranges), quantize(asked, "int8", ranges)
                outside = (ours.clipped + theirs.clipped) / (rows.size + asked.size)
                one.append((quality(best(theirs, ours)) - floats, outside))
                (stood, out), (meant, beyond) = by_dimension(rows, sample), by_dimension(asked, sample)
                lost = quality(best(meant, quantize(stood, "float32"))) - floats
                each.append((lost, (out * rows.size + beyond * asked.size) / (rows.size + asked.size)))
            for name, several in (("one", one), ("each dimension", each)):
                loss, outside = min(several)[0], max(share for _, share in several)
                print(f"| {width} | {name} | {size} | {loss:+.4f} | {outside:.3%} |")

    chance = np.random.default_rng(0)
    matrix = l2_normalize(chance.standard_normal((ROWS, 256), dtype=np.float32))
    query = matrix[:1]
    made = {
        dtype: quantize(matrix, dtype, calibrate(matrix) if dtype == "int8" else None)
        for dtype in ("float32", "float16", "int8", "ubinary")
    }
    searches = {dtype: (query, rows) for dtype, rows in made.items()}
    searches["ubinary, bits of the query"] = (quantize(query, "ubinary"), made["ubinary"])
    times: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(ROUNDS):
        for name, (one_query, rows) in searches.items():
            begun = time.perf_counter()
            scores(one_query, rows)
            times[name].append(time.perf_counter() - begun)
    print(f"\nScoring {ROWS:,} × 256 for one query, {processor()}, numpy {np.__version__}")
    print("| | bytes | ms |\n|---|--:|--:|")
    for name, rounds in times.items():
        dtype = name.partition(",")[0]
        print(f"| {name} | {bytes_per_vector(dtype, 256)} | {median(rounds) * 1e3:.1f} |")
    assert np.vecdot(dequantize(made["int8"]), matrix).min() > 0.99, "scored rows that are not the matrix's"


if __name__ == "__main__":
    main()
