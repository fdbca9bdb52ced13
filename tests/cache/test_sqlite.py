"""What is a file's own: whose it is, and who shares it. The contract is in `test_contract`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mrlclient.errors import ConfigurationError
from mrlclient.keys import KeyMaker
from tests.cache._writer import entry_of, key_of

apsw = pytest.importorskip("apsw")
pytest.importorskip("xxhash")

from mrlclient.cache import _sqlite_file  # noqa: E402
from mrlclient.cache.sqlite import SQLiteCache  # noqa: E402
from tests.cache._files import WIDTH, fill, found, integrity, segments  # noqa: E402

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and forks are POSIX")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


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


def in_child(work):
    """Runs `work` in a forked child and expects it to succeed."""
    child = os.fork()
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


_FORK_UNSEEN = """
import ctypes, os, sys
from mrlclient.cache import _sqlite_fork
from mrlclient.cache.sqlite import SQLiteCache
from tests.cache._files import fill, found

cache = SQLiteCache(sys.argv[1])
fill(cache, range(3))
parents = cache._db
child = ctypes.PyDLL(None).fork()
if child == 0:
    status = 1
    try:
        assert found(cache, range(3)) == [0, 1, 2]
        fill(cache, range(3, 6))
        assert cache._db is not parents
        assert parents in _sqlite_fork.inherited
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0
assert cache._db is parents
assert found(cache, range(6)) == [0, 1, 2, 3, 4, 5]
cache.close()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks behind Python's back, as a server's C code may")
def test_a_fork_that_python_is_not_told_of(path):
    # In a process of its own, with one thread: another one may hold the interpreter's lock at such a fork.
    subprocess.run([sys.executable, "-c", _FORK_UNSEEN, str(path)], check=True, timeout=60)
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
