"""The cache in memory: its bound, its clock, and what it says of itself."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from mrlclient.cache import Entry, MemoryCache
from mrlclient.errors import ConfigurationError
from mrlclient.testing.cache_contract import get, make_entry, make_key


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr("mrlclient.cache.memory.time.time", lambda: Clock.now)
    return Clock


def held(cache):
    return {entry.key for entry in cache.items()}


def keys(*examples):
    return {make_key(i) for i in examples}


def size_of_one(width):
    cache = MemoryCache()
    cache.set_many([make_entry(0, width)])
    return cache.stats().bytes


def test_the_least_recently_used_goes_first():
    cache = MemoryCache(max_bytes=3 * size_of_one(64))
    cache.set_many([make_entry(i, 64) for i in range(3)])
    get(cache, [0], 32)
    cache.set_many([make_entry(3, 64)])
    assert held(cache) == keys(2, 0, 3)
    get(cache, [2], 65)  # a miss is no use
    cache.set_many([make_entry(4, 64)])
    assert held(cache) == keys(0, 3, 4)


def test_the_bound_is_of_bytes():
    cache = MemoryCache(max_bytes=4 * size_of_one(64))
    cache.set_many([make_entry(i, 64) for i in range(4)])
    cache.set_many([make_entry(9, 300)])
    assert make_key(9) in held(cache)
    assert len(held(cache)) < 4
    cache.set_many([make_entry(i, 64) for i in range(50)])
    assert cache.stats().bytes == 4 * size_of_one(64)


def test_replacing_counts_once_and_clearing_gives_all_back():
    cache = MemoryCache()
    for width in (64, 300, 128, 1536):
        cache.set_many([make_entry(0, width)])
    assert cache.stats().bytes == size_of_one(1536)
    cache.clear()
    assert cache.stats().bytes == 0


def test_what_does_not_fit_at_all_is_not_kept():
    cache = MemoryCache(max_bytes=1000)
    cache.set_many([make_entry(0, 1536)])
    assert (held(cache), cache.stats().bytes) == (set(), 0)


def test_lifetime(clock):
    cache = MemoryCache(ttl=60)
    cache.set_many([make_entry(0, 64), Entry(make_key(1), np.ones(64, dtype=np.float32), created=970.0)])
    clock.now = 1030.0
    assert get(cache, [0, 1], 64)[0].mask.tolist() == [True, True]
    clock.now = 1031.0
    assert get(cache, [0, 1], 64)[0].mask.tolist() == [True, False]
    assert cache.prune() == 1
    clock.now = 1061.0
    cache.set_many([make_entry(0, 32)])  # narrower, but what is held is too old to count
    found, _ = get(cache, [0], 32)
    assert found.mask.all()
    assert cache.prune() == 0


@pytest.mark.parametrize("width", [64, 256, 1536])
def test_the_bytes_it_names_are_the_bytes_it_takes(width):
    vectors = np.random.default_rng(0).standard_normal((2000, width)).astype(np.float32)
    cache = MemoryCache()
    get(cache, [0], width)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        # Keys and numbers as they come from a request: nobody else holds them afterwards.
        for i, vector in enumerate(vectors):
            cache.set_many([Entry(make_key(i), vector, "acme:embed", float(i), float(i))])
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert cache.stats().bytes == pytest.approx(taken, rel=0.3)


def test_wrong_arguments():
    for wrong in ({"max_bytes": 0}, {"ttl": 0}, {"ttl": -1}):
        with pytest.raises(ConfigurationError):
            MemoryCache(**wrong)


def test_it_is_not_pickled():
    with pytest.raises(TypeError, match="Make one in each process"):
        pickle.dumps(MemoryCache())


_FORKS = """
import os, signal, threading
import numpy as np
from mrlclient.cache import MemoryCache
from mrlclient.testing.cache_contract import get, make_entry, make_key

cache, stop = MemoryCache(), threading.Event()
cache.set_many([make_entry(i, 1024) for i in range(200)])
size = cache.stats().bytes

def work():
    out = np.empty((200, 1024), dtype=np.float32)
    keys = [make_key(i) for i in range(200)]
    while not stop.is_set():
        cache.get_many(keys, 1024, out)

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        found = get(cache, [1], 8)[0].mask.all() and cache.stats().bytes == size
        os._exit(0 if found else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_others_use_it():
    subprocess.run([sys.executable, "-c", _FORKS], check=True, timeout=60)
