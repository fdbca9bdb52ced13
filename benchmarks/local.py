"""What the local models cost: `python -m benchmarks.local [--texts 10000]`. Needs the extras `wordllama` and `nomic`.

CPU time of the whole process, all threads. Texts are made: few words are frequent, and few texts are long.

- WordLlama: `Embedder.embed`, cut, normalised and checked, against the package's own `embed(norm=True)`.
- Nomic: a small random model of the true architecture. `Embedder.embed` against the plain loop over 32 texts at a time
  in the order they came, padded by the tokenizer to the longest, on ONNX Runtime as it comes.

In turns, so that a busy machine is as busy for both; the median ratio of the rounds. Both must give the same vectors.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cache import cpu, machine
from mrlclient import Embedder, Nomic, WordLlama
from mrlclient.vectors import truncate_dimensions

ROUNDS = 3
NAIVE_BATCH = 32
SINGLE_CALLS = 500
QUERY = ["how much does it cost to ship a parcel"]
TINY_NOMIC = Path(__file__).parent.parent / "tests" / "tiny-nomic"

Matrix = NDArray[np.float32]


def make_texts(count: int) -> list[str]:
    """Different texts: a few common words and many rare ones, 8 to 400 of them, 60 in the median."""
    chance = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlcumwfgypbvk"))
    words = ["".join(chance.choice(letters, size)) for size in chance.integers(2, 10, 5000)]
    weights = 1 / np.arange(1, len(words) + 1)
    sizes = np.clip(chance.lognormal(np.log(60), 0.8, count), 8, 400).astype(int)
    picked = chance.choice(len(words), int(sizes.sum()), p=weights / weights.sum())
    parts = np.split(picked, np.cumsum(sizes)[:-1])
    return [f"{i} {' '.join(words[word] for word in part)}" for i, part in enumerate(parts)]


def compare(ours: Callable[[], object], theirs: Callable[[], object], calls: int = 1) -> tuple[float, float, float]:
    """CPU seconds a call of each, and the ratio: medians over the rounds. Both have been called before."""

    def repeat(call: Callable[[], object]) -> Callable[[], None]:
        def repeated() -> None:
            for _ in range(calls):
                call()

        return repeated

    rounds = np.array([(cpu(repeat(ours)), cpu(repeat(theirs))) for _ in range(ROUNDS)]) / calls
    own, other = np.median(rounds, axis=0)
    return float(own), float(other), float(np.median(rounds[:, 1] / rounds[:, 0]))


def package_wordllama() -> Any:
    """The package's own inference, on the files that its wheel carries."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    package = find_spec("wordllama")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("wordllama is not installed: pip install 'mrlclient[wordllama]'")
    inference = import_module("wordllama.inference")
    logging.getLogger("wordllama").setLevel(logging.WARNING)
    folder = Path(package.submodule_search_locations[0])
    table = load_file(folder / "weights/l2_supercat_256.safetensors")["embedding.weight"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
    return inference.WordLlamaInference(table, tokenizer)


def plain_nomic() -> Callable[[list[str]], Matrix]:
    """Batches in the order of arrival, padded by the tokenizer, on a session as it comes; the whole recipe."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TINY_NOMIC / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(2048)
    session = onnxruntime.InferenceSession(str(TINY_NOMIC / "onnx/model.onnx"), providers=["CPUExecutionProvider"])

    def embed(texts: list[str]) -> Matrix:
        pooled = []
        for start in range(0, len(texts), NAIVE_BATCH):
            encodings = tokenizer.encode_batch([f"search_document: {t}" for t in texts[start : start + NAIVE_BATCH]])
            ids = np.array([encoding.ids for encoding in encodings])
            mask = np.array([encoding.attention_mask for encoding in encodings])
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden: Any = session.run(None, feeds)[0]
            pooled.append((hidden * mask[:, :, None].astype(np.float32)).sum(axis=1) / mask.sum(axis=1, keepdims=True))
        return truncate_dimensions(np.concatenate(pooled).astype(np.float32), 768, center=True)

    return embed


def same(ours: Matrix, theirs: Matrix, tolerance: float) -> None:
    """Raises where two ways did not give the same vectors: then there is nothing to compare."""
    difference = float(np.abs(ours - theirs).max())
    if difference > tolerance:
        raise AssertionError(f"the vectors differ by {difference:g}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="What the local models cost.")
    parser.add_argument("--texts", type=int, default=10_000, help="texts for WordLlama; Nomic gets a fiftieth")
    options = parser.parse_args()
    texts = make_texts(options.texts)
    some = texts[: max(1, len(texts) // 50)]

    package, plain = package_wordllama(), plain_nomic()
    with Embedder(WordLlama()) as words, Embedder(Nomic(model_path=TINY_NOMIC), truncate_input=True) as nomic:
        same(words.embed(some).embeddings, package.embed(some, norm=True), 1e-5)
        same(nomic.embed(some).embeddings, plain(some), 1e-4)
        tokens = nomic.embed(some).usage.tokens or 1
        many = compare(lambda: words.embed(texts), lambda: package.embed(texts, norm=True))
        one = compare(lambda: words.embed(QUERY), lambda: package.embed(QUERY, norm=True), SINGLE_CALLS)
        batches = compare(lambda: nomic.embed(some), lambda: plain(some))

    print(f"# {machine()}")
    print(f"# {' '.join(['python', '-m', 'benchmarks.local', *sys.argv[1:]])}")
    print(f"# CPU, medians of {ROUNDS} rounds\n")
    print(f"{'':44}{'ours':>10}{'theirs':>10}{'ratio':>8}")
    for name, (own, other, ratio), unit in (
        (f"WordLlama, {len(texts)} texts, µs a text", many, 1e6 / len(texts)),
        ("WordLlama, 1 query, µs", one, 1e6),
        (f"Nomic (small), {len(some)} texts, µs a token", batches, 1e6 / tokens),
    ):
        print(f"{name:44}{own * unit:10.2f}{other * unit:10.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
