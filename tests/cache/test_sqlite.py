"""What is a file's own: whose it is, how long its rows stay, and who shares it. The contract is in `test_contract`."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mrlclient.errors import ConfigurationError
from mrlclient.keys import KeyMaker
from tests.cache._writer import entry_of, key_of, vector_of

apsw = pytest.importorskip("apsw")
pytest.importorskip("xxhash")

from mrlclient.cache import _segments, _sqlite_file, _sqlite_fork, _sqlite_log, codec, sqlite  # noqa: E402
from mrlclient.cache.sqlite import SQLiteCache  # noqa: E402

WIDTH = 64
posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and forks are POSIX")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite"


@pytest.fixture
def clock(monkeypatch):
    """The time that caches see; set `clock.now`."""
    clock = SimpleNamespace(now=1_800_000_000.0)
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock


def fill(cache, numbers, width=WIDTH, seed=0):
    cache.set_many([entry_of(seed, n, width) for n in numbers])


def found(cache, numbers, width=WIDTH, seed=0):
    """The numbers that are there; each row is compared with what it must be."""
    numbers = list(numbers)
    out = np.full((len(numbers), width), np.nan, dtype=np.float32)
    mask = cache.get_many([key_of(seed, n) for n in numbers], width, out).mask
    for i in np.flatnonzero(mask):
        assert np.array_equal(out[i], vector_of(seed, numbers[i], width))
    return [n for n, there in zip(numbers, mask, strict=True) if there]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def segments(path):
    """The files of vectors, the oldest first."""
    found = path.parent.glob(f"{path.name}-vectors-*")
    return sorted(found, key=lambda each: int(each.name.rpartition("-")[2]))


def total(path):
    """Bytes of all files of a cache."""
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))


def dead(path):
    """Bytes of segments that no row of the index leads to."""
    db = apsw.Connection(str(path))
    try:
        return sum(each.stat().st_size for each in segments(path)) - db.execute("SELECT total(size) FROM vectors").get
    finally:
        db.close()


def integrity(path):
    with_file = apsw.Connection(str(path))
    try:
        return with_file.pragma("integrity_check")
    finally:
        with_file.close()


# --- the file -------------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_a_new_file_and_its_folders_are_the_owners_alone(tmp_path, umask):
    path = tmp_path / "a" / "b" / "cache.sqlite"
    old = os.umask(umask & 0o077)
    try:
        path.parent.mkdir(parents=True, mode=0o700) if umask & 0o700 else None
        os.umask(umask)
        cache = SQLiteCache(path)
        fill(cache, range(3))
        assert {mode(each) for each in path.parent.iterdir()} == {0o600}
        assert len(list(path.parent.iterdir())) == 4  # the log and its index, and the vectors
        assert mode(path.parent) == 0o700
    finally:
        os.umask(old)
    cache.close()


@posix
def test_a_file_that_others_could_read_is_made_private_again(path):
    cache = SQLiteCache(path)
    fill(cache, range(3))
    cache.close()
    for each in path.parent.iterdir():
        each.chmod(0o644)
    cache = SQLiteCache(path)
    assert found(cache, range(3)) == [0, 1, 2]
    assert {mode(each) for each in path.parent.iterdir()} == {0o600}
    cache.close()


def test_relative_and_home_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    SQLiteCache("near.sqlite").close()
    SQLiteCache("~/far.sqlite").close()
    assert (tmp_path / "near.sqlite").exists()
    assert (tmp_path / "home" / "far.sqlite").exists()


@posix
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_link_is_refused_and_its_target_left_alone(tmp_path, path, suffix):
    SQLiteCache(path).close()
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    link = path.with_name(path.name + suffix)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    with pytest.raises(ConfigurationError, match="symbolic link"):
        SQLiteCache(path)
    assert target.read_bytes() == b"precious"


@posix
def test_vectors_that_are_a_link_are_a_miss_and_its_target_is_left_alone(tmp_path, path):
    cache = SQLiteCache(path)
    fill(cache, range(3))
    cache.close()
    target = tmp_path / "target"
    segments(path)[0].rename(target)
    before = target.read_bytes()
    segment = path.with_name(f"{path.name}-vectors-1")
    segment.symlink_to(target)
    for _ in range(2):
        cache = SQLiteCache(path)
        assert found(cache, range(3)) == []
        fill(cache, range(10, 13))
        assert found(cache, range(13)) == [10, 11, 12]
        cache.close()
    assert target.read_bytes() == before


@posix
def test_a_folder_in_the_path_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    SQLiteCache(tmp_path / "link" / "cache.sqlite").close()
    assert (tmp_path / "real" / "cache.sqlite").exists()


def make_foreign(path, kind):
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("notes that somebody needs\n" * 100, encoding="utf-8")
    elif kind == "short":
        path.write_bytes(b"x")
    else:
        db = apsw.Connection(str(path))
        if kind == "foreign in a log":
            db.pragma("journal_mode", "WAL")
        db.execute("CREATE TABLE theirs (a)")
        if kind == "future":
            db.pragma("application_id", _sqlite_file._APPLICATION_ID)
            db.pragma("user_version", 3)
        if kind == "past":
            db.pragma("application_id", _sqlite_file._APPLICATION_ID)
            db.pragma("user_version", 1)
        if kind == "other application":
            db.pragma("application_id", 1234)
        db.close()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("folder", "is not a file"),
        ("text", "not a cache of mrlclient"),
        ("short", "not a cache of mrlclient"),
        ("foreign", "not a cache of mrlclient"),
        ("foreign in a log", "not a cache of mrlclient"),
        ("other application", "not a cache of mrlclient"),
        ("future", "another version of mrlclient"),
        ("past", "another version of mrlclient"),
    ],
)
def test_what_is_not_ours_is_refused_and_left_as_it_is(path, kind, says):
    make_foreign(path, kind)
    before = (path.stat(), None if path.is_dir() else path.read_bytes(), sorted(path.parent.iterdir()))
    with pytest.raises(ConfigurationError, match=says):
        SQLiteCache(path)
    after = (path.stat(), None if path.is_dir() else path.read_bytes(), sorted(path.parent.iterdir()))
    assert after[1:] == before[1:]
    assert (after[0].st_mode, after[0].st_mtime_ns) == (before[0].st_mode, before[0].st_mtime_ns)


def test_an_empty_file_becomes_a_cache(path):
    path.touch()
    cache = SQLiteCache(path)
    fill(cache, range(3))
    cache.close()
    assert found(SQLiteCache(path), range(3)) == [0, 1, 2]


def test_a_damaged_file_is_refused_with_what_to_do(path):
    cache = SQLiteCache(path)
    fill(cache, range(50))
    cache.close()
    data = bytearray(path.read_bytes())
    data[200 : _sqlite_file._PAGE_BYTES * 3] = bytes(_sqlite_file._PAGE_BYTES * 3 - 200)
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match="delete it"):
        SQLiteCache(path)


@posix
def test_a_folder_that_may_not_be_written(tmp_path):
    code = "import sys; from mrlclient.cache.sqlite import SQLiteCache; SQLiteCache(sys.argv[1])"
    locked = tmp_path / "locked"
    SQLiteCache(locked / "held.sqlite").close()
    if os.geteuid() == 0:
        # Modes do not bind root; a file system that may only be read does.
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(locked)], capture_output=True).returncode:
            pytest.skip("a read-only file system cannot be mounted here")
        undo = ["umount", str(locked)]
    else:
        locked.chmod(0o500)
        undo = ["chmod", "700", str(locked)]
    try:
        result = subprocess.run(
            [sys.executable, "-c", code, str(locked / "new.sqlite")], capture_output=True, text=True
        )
    finally:
        subprocess.run(undo, check=True)
    assert "ConfigurationError" in result.stderr
    assert "Give a path that may be written" in result.stderr


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.9.0"])
def test_an_sqlite_that_corrupts_files_is_refused(path, monkeypatch, version):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    with pytest.raises(ConfigurationError, match=r"upgrade apsw"):
        SQLiteCache(path)
    assert not path.exists()


@pytest.mark.parametrize("version", ["3.51.3", "3.54.1", "4.0.0"])
def test_a_newer_sqlite_is_taken(path, monkeypatch, version):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    SQLiteCache(path).close()


@pytest.mark.parametrize("options", [{"ttl": 0}, {"ttl": float("nan")}, {"max_bytes": 1000}, {"stored_type": "int8"}])
def test_wrong_arguments(path, options):
    with pytest.raises(ConfigurationError):
        SQLiteCache(path, **options)
    assert not path.exists()


def test_the_secret_is_the_files(tmp_path):
    one, other = SQLiteCache(tmp_path / "1"), SQLiteCache(tmp_path / "2")
    assert one.secret != other.secret
    assert len(one.secret) == 32
    one.close()
    assert SQLiteCache(tmp_path / "1").secret == one.secret


def test_no_text_is_in_the_file(path):
    cache = SQLiteCache(path)
    text = "the canary sings at midnight"
    maker = KeyMaker(cache.secret, ["openai", "model"])
    entry = entry_of(0, 0, WIDTH)
    cache.set_many([type(entry)(maker.key(text), entry.vector, entry.model)])
    cache.get_many([maker.key(text)], WIDTH, np.empty((1, WIDTH), dtype=np.float32))
    held = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert b"canary" not in held
    assert b"midnight" not in held
    cache.close()
    assert b"canary" not in path.read_bytes()


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


def damage(path, needle, offset):
    """Changes one byte after the last place where `needle` stands, everywhere in the file."""
    data = bytearray(path.read_bytes())
    assert needle in data
    place = data.rfind(needle)
    data[place + offset] ^= 0x40
    path.write_bytes(data)


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


def change(path, *statements):
    """Writes into the index what the cache would not."""
    db = apsw.Connection(str(path))
    for statement in statements:
        db.execute(*statement)
    db.close()


def number(n, seed=0):
    return int(codec.numbers_of([key_of(seed, n)])[0])


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


# --- threads and processes ------------------------------------------------------------------------------------------


def test_threads_share_one(path):
    cache = SQLiteCache(path, max_bytes=2**24)
    failures = []

    def work(seed):
        try:
            for start in range(0, 200, 20):
                fill(cache, range(start, start + 20), seed=seed)
                assert found(cache, range(start + 20), seed=seed) == list(range(start + 20))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert cache.stats().entries == 1600
    cache.close()


def _open_and_say(path, barrier, queue):
    barrier.wait()
    cache = SQLiteCache(path)
    fill(cache, range(4))
    queue.put(cache.secret)
    cache.close()


def test_processes_that_open_a_new_file_at_once_agree_on_its_secret(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(4), context.Queue()
    for round_ in range(2):
        path = tmp_path / f"{round_}.sqlite"
        processes = [context.Process(target=_open_and_say, args=(path, barrier, queue)) for _ in range(4)]
        for process in processes:
            process.start()
        secrets = {queue.get(timeout=20) for _ in processes}
        for process in processes:
            process.join()
        assert secrets == {SQLiteCache(path).secret}


def test_threads_that_open_a_new_file_at_once_agree_on_its_secret(tmp_path):
    for round_ in range(20):
        path, secrets, barrier = tmp_path / f"{round_}.sqlite", [], threading.Barrier(8)

        def work(path=path, secrets=secrets, barrier=barrier):
            barrier.wait()
            secrets.append(SQLiteCache(path).secret)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(secrets) == 8
        assert len(set(secrets)) == 1


def test_the_wider_wins_whoever_comes_last(path):
    SQLiteCache(path).close()
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.cache._writer", str(path), "0", str(width), "40"],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for width in (64, 512, 256)
    ]
    for writer in writers:
        lines, _ = writer.communicate(timeout=60)
        assert writer.returncode == 0
        assert len(lines.splitlines()) == 40
    cache = SQLiteCache(path)
    assert found(cache, range(640), width=512) == list(range(640))
    assert cache.stats().entries == 640
    cache.close()


def in_child(work, fork=os.fork):
    """Runs `work` in a forked child and expects it to succeed."""
    child = fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def open_files_are_none_of(path):
    for each in Path("/proc/self/fd").iterdir():
        assert not (each.exists() and str(path) in str(each.readlink()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_both_sides_of_a_fork(path):
    cache = SQLiteCache(path)
    fill(cache, range(3))

    def child():
        assert found(cache, range(3)) == [0, 1, 2]
        fill(cache, range(3, 6))
        cache.close()

    in_child(child)
    if sys.platform.startswith("linux"):
        in_child(lambda: open_files_are_none_of(path))
    assert found(cache, range(6)) == [0, 1, 2, 3, 4, 5]
    fill(cache, range(6, 9))
    cache.close()
    assert integrity(path) == "ok"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks behind Python's back, as a server's C code may")
def test_a_fork_that_python_is_not_told_of(path):
    cache = SQLiteCache(path)
    fill(cache, range(3))
    parents = cache._db

    def child():
        assert found(cache, range(3)) == [0, 1, 2]
        fill(cache, range(3, 6))
        assert cache._db is not parents
        assert parents in _sqlite_fork.inherited

    in_child(child, ctypes.PyDLL(None).fork)
    assert cache._db is parents
    assert found(cache, range(6)) == [0, 1, 2, 3, 4, 5]
    cache.close()
    assert integrity(path) == "ok"


def test_used_after_close_it_opens_again(path):
    cache = SQLiteCache(path)
    fill(cache, [1])
    cache.close()
    cache.close()
    assert found(cache, [1]) == [1]
    cache.close()


def test_it_pickles_as_its_path_and_options(path):
    cache = SQLiteCache(path, max_bytes=2**21, ttl=1000, stored_type="float16")
    fill(cache, range(3))
    data = pickle.dumps(cache)
    assert cache.secret not in data
    again = pickle.loads(data)
    assert (again._path, again._max_bytes, again._ttl, again._type) == (path, 2**21, 1000, "float16")
    assert again.secret == cache.secret
    out = np.empty((3, WIDTH), dtype=np.float32)
    assert again.get_many([key_of(0, n) for n in range(3)], WIDTH, out).mask.all()
    again.close()
    cache.close()
