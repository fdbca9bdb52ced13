"""A process that writes to a cache file: `python _writer.py PATH SEED [WIDTH ROUNDS]`. One line for each batch kept.

Entry n of seed s has the key `key_of(s, n)` and the vector `vector_of(s, n, width)`, so that whoever reads can tell.
"""

from __future__ import annotations

import hashlib
import itertools
import sys

import numpy as np

from mrlclient.cache.sqlite import SQLiteCache
from mrlclient.keys import Entry

BATCH = 16


def key_of(seed: int, n: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{n}".encode(), digest_size=32).digest()


def vector_of(seed: int, n: int, width: int) -> np.ndarray:
    """A prefix of the wider ones of the same seed and number."""
    return np.random.default_rng([seed, n]).standard_normal(4096, dtype=np.float32)[:width]


def entry_of(seed: int, n: int, width: int) -> Entry:
    return Entry(key_of(seed, n), vector_of(seed, n, width), "openai:text-embedding-3-small", 2.0, 0.5)


def main() -> None:
    path, seed = sys.argv[1], int(sys.argv[2])
    width = int(sys.argv[3]) if len(sys.argv) > 3 else 256
    rounds = range(int(sys.argv[4])) if len(sys.argv) > 4 else itertools.count()
    cache = SQLiteCache(path)
    for batch in rounds:
        cache.set_many([entry_of(seed, n, width) for n in range(batch * BATCH, (batch + 1) * BATCH)])
        print(batch, flush=True)
    cache.close()


if __name__ == "__main__":
    main()
