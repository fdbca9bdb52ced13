"""How long the rows of a cache file stay, what damage does to them, and the space that they take."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.cache._writer import entry_of, key_of, vector_of

apsw = pytest.importorskip("apsw")
pytest.importorskip("xxhash")

from mrlclient.cache import _segments, _sqlite_log, codec, sqlite  # noqa: E402
from mrlclient.cache.sqlite import SQLiteCache  # noqa: E402
from tests.cache._files import WIDTH, change, damage, dead, fill, found, integrity, number, segments, total  # noqa: E402

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and forks are POSIX")


# --- rows -----------------------------------------------------------------------------------------------------------


def test_the_least_recently_used_go_first(path, clock):
    cache = SQLiteCache(path, max_bytes=2**20)
    fill(cache, range(50), width=4096)
    clock.now += 2 * sqlite._COARSE
    assert found(cache, [3, 5], width=4096) == [3, 5]
    assert found(cache, [7], width=64) == [7]  # a prefix is a use, too
    fill(cache, range(100, 116), width=4096)
    left = found(cache, [*range(50), *range(100, 116)], width=4096)
    gone = sorted(set(range(50)) - set(left))
    assert gone
    assert gone == [n for n in range(50) if n not in {3, 5, 7}][: len(gone)], "the oldest first, unless they were used"
    assert left[-16:] == list(range(100, 116))
    cache.close()


def test_a_read_soon_after_the_last_use_costs_no_write(path, clock):
    cache = SQLiteCache(path, max_bytes=2**20)
    fill(cache, range(5))
    assert found(cache, range(5)) == list(range(5))
    assert not cache._touched
    clock.now += 2 * sqlite._COARSE
    found(cache, range(5))
    assert len(cache._touched) == 5
    cache.close()


def test_what_was_used_is_remembered_at_close(path, clock):
    cache = SQLiteCache(path, max_bytes=2**20)
    fill(cache, range(20), width=4096)
    clock.now += 2 * sqlite._COARSE
    found(cache, [0], width=4096)
    cache.close()
    assert [entry.key for entry in SQLiteCache(path).items()][-1] == key_of(0, 0)


@pytest.mark.parametrize("width", [256, 1536, 3072])
def test_the_file_stays_within_its_bound(path, clock, width):
    bound = 4 * 2**20
    cache = SQLiteCache(path, max_bytes=bound)
    random = np.random.default_rng(1)
    batch = max(1, bound // 20 // (4 * width))
    # Rows used at random in between leave holes in the file: the worst for its bound.
    for start in range(0, 60 * batch, batch):
        fill(cache, range(start, start + batch), width=width)
        clock.now += 1.1 * sqlite._COARSE
        found(cache, random.choice(start + batch, size=min(batch, start + batch), replace=False).tolist(), width=width)
        assert total(path) <= 1.15 * bound
    held = len(found(cache, range(60 * batch), width=width))
    cache.close()
    assert total(path) <= bound
    assert held * 4 * width >= bound / 2
    assert integrity(path) == "ok"


def test_rows_that_are_too_old(path, clock):
    cache = SQLiteCache(path, ttl=100)
    fill(cache, [1, 2])
    clock.now += 60
    fill(cache, [3])
    assert found(cache, [1, 2, 3]) == [1, 2, 3]
    clock.now += 60
    assert found(cache, [1, 2, 3]) == [3]
    fill(cache, [1], width=32)  # narrower, but what is held is too old
    assert found(cache, [1, 2, 3], width=32) == [1, 3]
    assert cache.prune() == 1
    assert cache.stats().entries == 2
    cache.close()


@pytest.fixture
def many(path):
    cache = SQLiteCache(path)
    fill(cache, range(1000), width=1024)
    cache.close()
    return SQLiteCache(path)


def test_clear_gives_the_space_back(path, many):
    assert total(path) > 4 * 2**20
    assert many.clear() == 1000
    assert segments(path) == []
    many.close()
    assert total(path) < 2**17


def test_prune_gives_the_space_back(path, many):
    many.close()
    bounded = SQLiteCache(path, max_bytes=2 * 2**20)
    assert bounded.prune() > 500
    bounded.close()
    assert total(path) <= 2 * 2**20


def test_counts_are_the_files(path):
    cache = SQLiteCache(path)
    fill(cache, range(4))
    found(cache, range(6))
    assert (cache.stats().hits, cache.stats().misses) == (4, 2)
    cache.close()
    stats = SQLiteCache(path).stats()
    assert (stats.entries, stats.hits, stats.misses, stats.tokens_saved, stats.usd_saved) == (4, 4, 2, 8.0, 2.0)
    assert stats.bytes >= total(path) > path.stat().st_size


def test_a_damaged_row_is_a_miss_and_can_be_kept_again(path):
    cache = SQLiteCache(path)
    fill(cache, range(5), width=256)
    cache.close()
    damage(segments(path)[0], vector_of(0, 2, 64).tobytes(), 10)
    cache = SQLiteCache(path)
    assert found(cache, range(5), width=256) == [0, 1, 3, 4]
    assert cache.stats().entries == 4
    fill(cache, [2], width=256)
    assert found(cache, range(5), width=256) == [0, 1, 2, 3, 4]
    cache.close()


def test_verify_drops_what_is_damaged(path):
    cache = SQLiteCache(path)
    fill(cache, range(5), width=256)
    cache.close()
    damage(segments(path)[0], vector_of(0, 2, 256)[192:].tobytes(), 10)
    cache = SQLiteCache(path)
    assert found(cache, range(5), width=128) == [0, 1, 2, 3, 4]  # the damage is behind what was read
    assert cache.verify() == (4, 1)
    assert cache.verify() == (4, 0)
    cache.close()


def test_an_index_that_points_at_another_row(path):
    """The one damage that no checksum over numbers shows: a good value, of another text."""
    cache = SQLiteCache(path)
    fill(cache, range(5))
    cache.close()
    change(
        path,
        (
            "UPDATE vectors SET at = (SELECT max(at) + min(at) FROM vectors WHERE key IN (?1, ?2)) - at "
            "WHERE key IN (?1, ?2)",
            (number(2), number(3)),
        ),
    )
    assert {entry.key for entry in SQLiteCache(path).items()} == {key_of(0, n) for n in (0, 1, 4)}
    cache = SQLiteCache(path)
    assert found(cache, [2]) == []
    assert found(cache, range(5)) == [0, 1, 4]
    assert cache.verify() == (3, 0)  # what was found to be damaged is gone
    fill(cache, [2, 3])
    assert found(cache, range(5)) == [0, 1, 2, 3, 4]
    cache.close()


def test_verify_drops_rows_of_the_index_that_point_at_another(path):
    cache = SQLiteCache(path)
    fill(cache, range(5))
    change(
        path, ("UPDATE vectors SET at = (SELECT at FROM vectors WHERE key = ?) WHERE key = ?", (number(1), number(3)))
    )
    assert cache.verify() == (4, 1)
    assert cache.verify() == (4, 0)
    assert found(cache, range(5)) == [0, 1, 2, 4]
    cache.close()


@pytest.mark.parametrize("value", [None, "text", 1.5, b"blob", -1, 2**62, 2**40 + 7, 3])
@pytest.mark.parametrize("column", ["at", "size", "width", "created", "used"])
def test_an_index_that_says_anything(path, clock, column, value):
    cache = SQLiteCache(path, max_bytes=2**20, ttl=1e6)
    fill(cache, range(5))
    change(
        path,
        ("CREATE TABLE new (key INTEGER PRIMARY KEY, at, size, width, created, used)",),
        ("INSERT INTO new SELECT * FROM vectors",),
        ("DROP TABLE vectors",),
        ("ALTER TABLE new RENAME TO vectors",),
        (f"UPDATE vectors SET {column} = ? WHERE key = ?", (value, number(2))),
    )
    clock.now += 2 * sqlite._COARSE
    assert set(found(cache, range(5))) >= {0, 1, 3, 4}
    fill(cache, range(5), width=WIDTH + 1)
    good, _ = cache.verify()
    assert good >= 4
    assert set(found(cache, range(5), width=WIDTH + 1)) >= {0, 1, 3, 4}
    cache.prune()
    assert len(list(cache.items())) >= 4
    cache.clear()
    cache.close()


@pytest.mark.parametrize(
    "change_",
    [
        "DELETE FROM segments",
        "UPDATE segments SET size = 'x'",
        "UPDATE segments SET number = 5000000000",
        "UPDATE segments SET dead = -1",
    ],
)
def test_a_table_of_segments_that_is_damaged_is_an_error(path, change_):
    cache = SQLiteCache(path)
    fill(cache, range(3))
    change(path, (change_,))
    assert found(cache, range(3)) == [0, 1, 2]
    with pytest.raises(apsw.CorruptError):
        fill(cache, range(5))
    cache.close()


def test_a_segment_that_is_shorter_than_the_index_says(path):
    cache = SQLiteCache(path)
    fill(cache, range(20), width=256)
    cache.close()
    size = codec.encoded_size(256)
    with segments(path)[0].open("r+b") as file:
        file.truncate(12 * size + 100)
    cache = SQLiteCache(path)
    assert found(cache, range(20), width=256) == list(range(12))
    assert cache.stats().entries == 12
    fill(cache, range(12, 20), width=256)
    assert found(cache, range(20), width=256) == list(range(20))
    assert cache.verify() == (20, 0)
    cache.close()


def test_a_segment_that_is_gone(path):
    cache = SQLiteCache(path)
    fill(cache, range(20))
    cache.close()
    segments(path)[0].unlink()
    cache = SQLiteCache(path)
    assert list(cache.items()) == []
    assert cache.verify() == (0, 20)
    fill(cache, range(20))
    assert found(cache, range(20)) == list(range(20))
    cache.close()


def test_what_a_killed_writer_left_is_written_over(path):
    """Bytes behind the end that the index knows, and a file that it does not know: sound values, of nobody."""
    cache = SQLiteCache(path)
    fill(cache, range(3))
    cache.close()
    lost = codec.encode(entry_of(0, 7, WIDTH))
    with segments(path)[0].open("ab") as file:
        file.write(lost * 5)
    path.with_name(f"{path.name}-vectors-2").write_bytes(lost * 5)
    cache = SQLiteCache(path)
    assert found(cache, range(8)) == [0, 1, 2]
    fill(cache, range(3, 6))
    assert found(cache, range(8)) == [0, 1, 2, 3, 4, 5]
    assert len(segments(path)) == 1
    assert cache.verify() == (6, 0)
    cache.close()


def test_a_place_that_is_another_values_by_now_is_a_miss(path):
    """As after a power failure, which may take the last commits of the index, but not what points there elsewhere."""
    cache = SQLiteCache(path)
    fill(cache, [1, 2])
    db = apsw.Connection(str(path))
    stale = db.execute("SELECT at, size, width FROM vectors WHERE key = ?", (number(2),)).get
    db.close()
    change(
        path, ("DELETE FROM vectors WHERE key = ?", (number(2),)), ("UPDATE segments SET size = ?", (stale[0] % 2**32,))
    )
    fill(cache, [3])
    change(path, ("INSERT INTO vectors VALUES (?, ?, ?, ?, 1, 1)", (number(2), *stale)))
    assert found(cache, [1, 2, 3]) == [1, 3]
    cache.close()


def test_files_that_the_index_does_not_know_are_removed(path):
    cache = SQLiteCache(path)
    fill(cache, range(3))
    cache.close()
    for name in (f"{path.name}-vectors-9", f"{path.name}-vectors-0"):
        path.with_name(name).write_bytes(b"left by a killed process")
    kept = [f"{path.name}-vectors-x", f"{path.name}-vectors-1.bak", f"x{path.name}-vectors-9"]
    for name in kept:
        path.with_name(name).write_bytes(b"somebody else's")
    cache = SQLiteCache(path)
    fill(cache, range(3, 6))
    assert found(cache, range(6)) == list(range(6))
    cache.close()
    left = {each.name for each in path.parent.iterdir()}
    assert left == {path.name, f"{path.name}-vectors-1", *kept}


def test_a_new_index_beside_old_vectors(path):
    cache = SQLiteCache(path, max_bytes=2**20)
    fill(cache, range(100), width=1024)
    cache.close()
    assert len(segments(path)) > 1
    path.unlink()
    cache = SQLiteCache(path)
    assert found(cache, range(100), width=1024) == []
    fill(cache, range(3))
    assert found(cache, range(100)) == [0, 1, 2]
    assert len(segments(path)) == 1
    cache.close()


# --- space ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_segments(monkeypatch):
    """Segments of 64 KiB, so that a few rows make many."""
    monkeypatch.setattr(_sqlite_log, "_SEGMENT_BYTES", (2**16, 2**16))
    return 2**16


def test_a_narrower_vector_is_not_even_written(path):
    cache = SQLiteCache(path)
    fill(cache, range(20), width=512)
    before = total(path)
    fill(cache, range(20), width=256)
    fill(cache, range(20), width=512)
    assert sum(each.stat().st_size for each in segments(path)) == 20 * codec.encoded_size(512)
    assert dead(path) == 0
    assert total(path) <= before + 2**16  # the index's log
    cache.close()


def test_what_was_replaced_is_compacted_by_writes(path, small_segments):
    cache = SQLiteCache(path)
    for width in (256, 512, 1024):
        for start in range(0, 200, 20):
            fill(cache, range(start, start + 20), width=width)
    fill(cache, range(200, 240), width=1024)
    for _ in range(30):
        fill(cache, [999], width=64)  # each write compacts one segment at most
    assert found(cache, range(200), width=1024) == list(range(200))
    live = 240 * codec.encoded_size(1024)
    assert dead(path) <= live + 2 * small_segments, "no segment but the newest is mostly dead"
    cache.close()
    assert integrity(path) == "ok"


def test_prune_compacts_what_is_dead(path, clock, small_segments):
    cache = SQLiteCache(path, ttl=100)
    fill(cache, range(0, 400, 2), width=256)
    clock.now += 60
    fill(cache, range(1, 400, 2), width=256)
    fill(cache, range(0, 400, 8), width=257)
    clock.now += 60
    assert cache.prune() == 150
    left = sorted({*range(1, 400, 2), *range(0, 400, 8)})
    assert found(cache, range(400), width=256) == left
    assert dead(path) <= 0.1 * sum(each.stat().st_size for each in segments(path)) + codec.encoded_size(257)
    assert cache.verify() == (250, 0)
    assert cache.prune() == 0
    cache.close()


def test_moved_under_way_by_another_process(path, small_segments):
    """Between a look into the index and the read, another process compacts: the row is looked up again."""
    cache, other = SQLiteCache(path), SQLiteCache(path)
    fill(cache, range(100), width=256)
    fill(cache, range(0, 100, 2), width=257)
    moves = [other.prune]

    class Moving(_segments.Segments):
        def read(self, at, into):
            while moves:
                moves.pop()()
            return super().read(at, into)

    cache._reader._files = Moving(path)
    before = segments(path)
    assert found(cache, range(100), width=256) == list(range(100))
    assert set(before) - set(segments(path))
    assert not cache._damaged
    cache.close()
    other.close()


def test_evicted_under_way_by_another_process_is_a_miss(path):
    cache, other = SQLiteCache(path), SQLiteCache(path)
    fill(cache, range(10))
    clears = [other.clear]

    class Clearing(_segments.Segments):
        def read(self, at, into):
            while clears:
                clears.pop()()
            return super().read(at, into)

    cache._reader._files = Clearing(path)
    assert found(cache, range(10)) == []
    fill(cache, range(10))
    assert found(cache, range(10)) == list(range(10))
    cache.close()
    other.close()


@posix
def test_what_others_hold_open_takes_no_space(path):
    """An idle process that once read a segment must not keep its bytes on the disk."""
    cache, other = SQLiteCache(path), SQLiteCache(path)
    fill(cache, range(100), width=1024)
    assert len(found(other, range(100), width=1024)) == 100
    held = list(other._files._open.values())
    assert sum(os.fstat(file).st_size for file in held) > 100 * 4096
    cache.clear()
    assert sum(os.fstat(file).st_size for file in held) == 0
    cache.close()
    other.close()


@posix
def test_what_cannot_be_opened_for_now_is_not_dropped(path):
    """With too many open files, say. What is there was paid for."""
    import resource

    cache = SQLiteCache(path)
    fill(cache, range(10))
    cache.close()
    cache = SQLiteCache(path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        for use in (lambda: found(cache, range(10)), lambda: list(cache.items()), cache.verify):
            with pytest.raises(OSError, match="open files"):
                use()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found(cache, range(10)) == list(range(10))
    assert cache.verify() == (10, 0)
    cache.close()


def test_more_segments_than_are_kept_open(path, monkeypatch, small_segments):
    monkeypatch.setattr(_segments, "_MAX_OPEN", 3)
    cache = SQLiteCache(path)
    fill(cache, range(200), width=1024)
    assert len(segments(path)) > 10
    assert found(cache, range(200), width=1024) == list(range(200))
    assert len(cache._files._open) == 3
    cache.close()
    assert not cache._files._open


def test_without_reads_at_offsets(path, monkeypatch):
    """As on Windows."""
    monkeypatch.setattr(_segments, "_AT_OFFSETS", False)
    cache = SQLiteCache(path, max_bytes=2**20)
    for start in range(0, 400, 40):
        fill(cache, range(start, start + 40), width=1024)
    there = found(cache, range(400), width=512)
    assert there == list(range(there[0], 400))
    assert len(there) > 100
    assert cache.verify() == (len(there), 0)
    cache.close()
