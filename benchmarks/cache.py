"""What a cached embedding costs: `python -m benchmarks.cache [--rows 50000]`. Needs `langchain-classic`.

CPU time of the whole process, in microseconds a row: the median over batches of 256 random rows of 1536 float32, from
files that were just written, so that the system has them in memory. Texts are 1,000 characters. A hit makes the keys,
finds the rows and writes them into a matrix.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import numpy as np
from numpy.typing import NDArray

from mrlclient.cache import Cache, MemoryCache, SQLiteCache
from mrlclient.evaluate._environment import processor
from mrlclient.keys import Entry, KeyMaker

WIDTH = 1536
BATCH = 256
BATCHES = 100
FIELDS = ("https://api.openai.com/v1", "openai:text-embedding-3-small", "document")
_RAW_BYTES = WIDTH * 4

Matrix = NDArray[np.float32]


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def per_row(seconds: Sequence[float], rows: int = BATCH) -> float:
    """Microseconds a row, the median."""
    return float(np.median(seconds)) / rows * 1e6


def make_texts(rows: int) -> list[str]:
    """Different texts of 1,000 characters."""
    chance = random.Random(0)  # noqa: S311
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(5000)]
    return [f"{i} {' '.join(chance.choices(words, k=180))}"[:1000].ljust(1000, ".") for i in range(rows)]


class Run:
    """One measurement's texts and vectors, and the table that comes of it."""

    def __init__(self, rows: int, folder: Path) -> None:
        self.rows = rows
        self.folder = folder
        self.texts = make_texts(rows)
        self.vectors = np.random.default_rng(0).standard_normal((BATCH, WIDTH), dtype=np.float32)
        self.chance = random.Random(1)  # noqa: S311

    def batches(self) -> list[range]:
        """All rows, in order."""
        return [range(start, min(start + BATCH, self.rows)) for start in range(0, self.rows, BATCH)]

    def hits(self, *finds: Callable[[list[str]], object]) -> list[float]:
        """Microseconds for a hit by text, of each; in turns, so that a busy machine is as busy for all of them."""
        samples = [[self.texts[i] for i in self.chance.sample(range(self.rows), BATCH)] for _ in range(BATCHES)]
        seconds = [[cpu(lambda find=find, texts=texts: find(texts)) for find in finds] for texts in samples]  # type: ignore[misc]
        return [per_row(each) for each in zip(*seconds, strict=True)]

    def cache(self, cache: Cache) -> dict[str, float]:
        """Insert, hit, and hit at 256."""
        maker = KeyMaker(cache.secret, FIELDS)
        inserts = []
        for batch in self.batches():
            entries = [
                Entry(key, vector, FIELDS[1], 250.0, 5e-6)
                for key, vector in zip(maker.keys(self.texts[i] for i in batch), self.vectors, strict=False)
            ]
            inserts.append(cpu(lambda entries=entries: cache.set_many(entries)) / len(batch))  # type: ignore[misc]

        def find(texts: list[str], width: int, out: Matrix) -> None:
            if not cache.get_many(maker.keys(texts), width, out).mask.all():
                raise AssertionError("a row is missing")

        full, narrow = np.empty((BATCH, WIDTH), dtype=np.float32), np.empty((BATCH, 256), dtype=np.float32)
        hit, hit_narrow = self.hits(lambda texts: find(texts, WIDTH, full), lambda texts: find(texts, 256, narrow))
        return {"insert": per_row(inserts, 1), "hit": hit, "hit at 256": hit_narrow}

    def sqlite(self) -> dict[str, float]:
        """As `cache`, and the size of all its files and the time to open it."""
        path = self.folder / "file" / "cache.sqlite"
        cache = SQLiteCache(path)
        result = self.cache(cache)
        cache.close()
        result["size"] = sum(each.stat().st_size for each in path.parent.iterdir()) / (self.rows * _RAW_BYTES)
        opened = [cpu(lambda: SQLiteCache(path)) for _ in range(20)]
        result["open ms"] = float(np.median(opened)) * 1e3
        return result

    def langchain(self, rows: int = 2048) -> dict[str, float]:
        """`CacheBackedEmbeddings` over files, of fewer rows: each takes milliseconds."""
        from langchain_classic.embeddings import CacheBackedEmbeddings
        from langchain_classic.storage import LocalFileStore
        from langchain_core.embeddings import Embeddings

        known: list[list[float]] = self.vectors.astype(float).tolist()

        class Known(Embeddings):
            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                return known[: len(texts)]

            def embed_query(self, text: str) -> list[float]:
                return known[0]

        folder = self.folder / "langchain"
        store = LocalFileStore(folder)
        cached = CacheBackedEmbeddings.from_bytes_store(Known(), store, namespace="m-", key_encoder="sha256")
        inserts = [
            cpu(lambda start=start: cached.embed_documents(self.texts[start : start + BATCH]))  # type: ignore[misc]
            for start in range(0, rows, BATCH)
        ]
        hits = [
            cpu(lambda texts=texts: np.asarray(cached.embed_documents(texts), dtype=np.float32))  # type: ignore[misc]
            for texts in ([self.texts[i] for i in self.chance.sample(range(rows), BATCH)] for _ in range(8))
        ]
        size = sum(each.stat().st_size for each in folder.iterdir()) / (rows * _RAW_BYTES)
        return {"insert": per_row(inserts), "hit": per_row(hits), "size": size}

    def dict_limit(self) -> float:
        """Rows out of a dict, keys and all: what memory allows."""
        maker = KeyMaker(b"s" * 32, FIELDS)
        kept = {key: self.vectors[i % BATCH].copy() for i, key in enumerate(maker.keys(self.texts))}
        out = np.empty((BATCH, WIDTH), dtype=np.float32)

        def find(texts: list[str]) -> None:
            for i, key in enumerate(maker.keys(texts)):
                out[i] = kept[key]

        return self.hits(find)[0]

    def flat_limit(self) -> float:
        """An SQLite index by integers over a flat file that is mapped: no check, no eviction, no second process."""
        maker = KeyMaker(b"s" * 32, FIELDS)
        flat = np.memmap(self.folder / "flat", dtype=np.float32, mode="w+", shape=(self.rows, WIDTH))
        for batch in self.batches():
            flat[batch.start : batch.stop] = self.vectors[: len(batch)]
        db = apsw.Connection(str(self.folder / "index.sqlite"))
        db.execute("CREATE TABLE places (key INTEGER PRIMARY KEY, place INTEGER)")

        def number(key: bytes) -> int:
            return int.from_bytes(key[:8], "little", signed=True)

        with db:
            numbers = [(number(key), i) for i, key in enumerate(maker.keys(self.texts))]
            db.executemany("INSERT INTO places VALUES (?, ?)", numbers)
        query = "SELECT place FROM places WHERE key IN (SELECT value FROM carray(?))"

        def find(texts: list[str]) -> None:
            numbers = np.array([number(key) for key in maker.keys(texts)], dtype=np.int64)
            places = [place for (place,) in db.execute(query, (apsw.carray(numbers),))]
            flat.take(places, axis=0)

        return self.hits(find)[0]


def machine() -> str:
    """The machine, in a line."""
    return (
        f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}, SQLite {apsw.sqlite_lib_version()}"
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="What a cached embedding costs.")
    parser.add_argument("--rows", type=int, default=50_000, help="rows in each cache")
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary folder by default")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mrlclient-", dir=options.folder))
    try:
        run = Run(options.rows, folder)
        kept = run.sqlite()
        memory = run.cache(MemoryCache(max_bytes=options.rows * (_RAW_BYTES + 1000)))
        peer = run.langchain()
        in_dict, flat = run.dict_limit(), run.flat_limit()
    finally:
        shutil.rmtree(folder)
    print(f"# {machine()}")
    print(f"# {' '.join(['python', '-m', 'benchmarks.cache', *sys.argv[1:]])}")
    print(
        f"# {options.rows} rows of {WIDTH} float32, batches of {BATCH}, CPU µs a row, keys included in hits, medians\n"
    )
    print(f"{'':34}{'hit':>9}{'at 256':>9}{'insert':>9}{'size/raw':>9}{'open ms':>9}")
    for name, values in (("SQLiteCache", kept), ("MemoryCache", memory), ("LangChain, LocalFileStore", peer)):
        cells = (values.get(column) for column in ("hit", "hit at 256", "insert", "size", "open ms"))
        print(f"{name:34}" + "".join(f"{'' if cell is None else format(cell, '.2f'):>9}" for cell in cells))
    print(f"{'limit: dict':34}{in_dict:9.2f}")
    print(f"{'limit: integer index + flat mmap':34}{flat:9.2f}")
    print("\nLangChain's cost, as a multiple of:")
    for name, values in (("SQLiteCache", kept), ("MemoryCache", memory)):
        print(f"{name:34}{peer['hit'] / values['hit']:9.0f}{'':9}{peer['insert'] / values['insert']:9.0f}")
    for name, limit in (("limit: dict", in_dict), ("limit: integer index + flat mmap", flat)):
        print(f"{name:34}{peer['hit'] / limit:9.0f}")


if __name__ == "__main__":
    main()
