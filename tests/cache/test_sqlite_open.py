"""What becomes of an open cache file that is deleted, replaced, locked, or dropped by whoever held it."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

apsw = pytest.importorskip("apsw")
pytest.importorskip("xxhash")

from mrlclient.cache import sqlite  # noqa: E402
from mrlclient.cache.sqlite import SQLiteCache  # noqa: E402
from tests.cache._files import fill, found, segments  # noqa: E402

posix = pytest.mark.skipif(os.name != "posix", reason="files in use are not deleted elsewhere")


def delete(path):
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def wait_for_a_look():
    time.sleep(sqlite._LOOK_SECONDS)


@posix
def test_what_is_written_is_never_written_to_a_deleted_file(path):
    """However soon after."""
    cache = SQLiteCache(path)
    fill(cache, range(3))
    found(cache, range(3))
    delete(path)
    fill(cache, range(3, 6))
    assert found(SQLiteCache(path), range(6)) == [3, 4, 5]
    cache.close()


@posix
def test_deleted_while_open_it_begins_anew(path):
    cache = SQLiteCache(path)
    fill(cache, range(3))
    old = cache.secret
    delete(path)
    wait_for_a_look()
    assert cache.secret != old
    assert found(cache, range(3)) == []
    fill(cache, range(3, 6))
    cache.close()
    again = SQLiteCache(path)
    assert found(again, range(6)) == [3, 4, 5]
    assert (again.stats().entries, again.stats().hits) == (3, 3)
    again.close()


@posix
def test_who_had_it_open_harms_no_new_one(path):
    """It has files of the same names, which are another cache's by now."""
    cache = SQLiteCache(path, max_bytes=2**20)
    fill(cache, range(100), width=1024)
    found(cache, range(100), width=1024)
    delete(path)
    new = SQLiteCache(path)
    fill(new, range(200, 300), width=1024)
    cache.close()
    assert found(new, range(300), width=1024) == list(range(200, 300))
    fill(cache, range(300, 303), width=1024)
    assert found(new, range(303), width=1024)[-3:] == [300, 301, 302]
    cache.close()
    new.close()


@posix
def test_replaced_while_open_it_is_the_other_from_then_on(path, tmp_path):
    cache = SQLiteCache(path)
    fill(cache, range(3))
    other = tmp_path / "other" / path.name
    held = SQLiteCache(other)
    fill(held, range(3, 6))
    held.close()
    delete(path)
    for each in other.parent.iterdir():
        shutil.move(each, path.parent / each.name)
    wait_for_a_look()
    assert found(cache, range(6)) == [3, 4, 5]
    assert cache.verify() == (3, 0)
    cache.close()


@posix
def test_vectors_that_are_deleted_while_open_take_no_others_along(path):
    cache = SQLiteCache(path)
    fill(cache, range(3))
    segments(path)[0].unlink()
    fill(cache, range(3, 6))
    cache.close()
    cache = SQLiteCache(path)
    assert found(cache, range(6)) == [3, 4, 5]
    cache.close()


@pytest.mark.parametrize("pending", ["damaged", "used"])
def test_a_look_waits_for_no_writer(path, clock, monkeypatch, pending):
    """Though it has something to write, which can wait."""
    monkeypatch.setattr(sqlite, "_MAX_TOUCHED", 1)
    cache = SQLiteCache(path, max_bytes=2**20)
    fill(cache, range(3))
    if pending == "damaged":
        cache._damaged.add((1, 2))
    else:
        clock.now += 2 * sqlite._COARSE
    writer = apsw.Connection(str(path))
    with writer:
        writer.execute("UPDATE meta SET hits = hits")
        begun = time.monotonic()
        assert found(cache, range(3)) == [0, 1, 2]
        assert time.monotonic() - begun < 2
    writer.close()
    assert found(cache, range(3)) == [0, 1, 2]
    assert cache.stats().hits == 6
    cache.close()


def test_while_it_waits_for_a_writer_the_process_goes_on(path):
    """Else nobody could end what it waits for, where that is in this very process; and an event loop would stand."""
    cache = SQLiteCache(path)
    writer = apsw.Connection(str(path))
    writer.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(fill, cache, range(3))
        begun = time.monotonic()
        time.sleep(0.2)
        assert time.monotonic() - begun < 2
        assert not kept.done()
        writer.execute("ROLLBACK")
        kept.result()
    assert found(cache, range(3)) == [0, 1, 2]
    writer.close()
    cache.close()


def test_two_in_one_process_share_a_file(path):
    caches = [SQLiteCache(path), SQLiteCache(path, max_bytes=2**22)]

    def work(seed):
        cache = caches[seed % 2]
        for start in range(0, 100, 10):
            fill(cache, range(start, start + 10), seed=seed)
            assert found(cache, range(start + 10), seed=seed) == list(range(start + 10))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert caches[0].verify() == (600, 0)
    for cache in caches:
        cache.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="open files are counted in /proc")
def test_a_cache_that_is_dropped_leaves_no_file_open(path):
    cache = SQLiteCache(path)
    fill(cache, range(3))
    cache.close()
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        cache = SQLiteCache(path)
        assert found(cache, range(3)) == [0, 1, 2]
        del cache
        gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
