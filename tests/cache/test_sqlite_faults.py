"""A cache file under kill -9, damage and a full disk. The default run does a few rounds; `soak` does all of them."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cache._writer import BATCH, key_of, vector_of

apsw = pytest.importorskip("apsw")
pytest.importorskip("xxhash")

from mrlclient.cache.sqlite import SQLiteCache  # noqa: E402

ROOT = Path(__file__).parents[2]
WRITERS = 4


def start_writers(path, round_, folder):
    """Four processes that write until they are killed; each says in a file which batches are kept."""
    started = []
    for writer in range(WRITERS):
        said = folder / f"{round_}-{writer}"
        with said.open("wb") as out:
            command = [sys.executable, "-m", "tests.cache._writer", str(path), str(round_ * WRITERS + writer)]
            started.append((subprocess.Popen(command, stdout=out, cwd=ROOT), said))
    return started


def kept_batches(said):
    # A line that was cut short by the kill was not said.
    whole, _, _ = said.read_bytes().rpartition(b"\n")
    return len(whole.splitlines())


def kill_rounds(tmp_path, rounds):
    path = tmp_path / "cache.sqlite"
    when = random.Random(7)
    for round_ in range(rounds):
        started = start_writers(path, round_, tmp_path)
        until = time.monotonic() + 30
        while time.monotonic() < until and not any(said.stat().st_size for _, said in started):
            time.sleep(0.005)
        for process, _ in started:
            time.sleep(when.uniform(0, 0.1))
            process.kill()
        for process, _ in started:
            process.wait()
        cache = SQLiteCache(path)
        for writer, (_, said) in enumerate(started):
            seed, numbers = round_ * WRITERS + writer, range(kept_batches(said) * BATCH)
            out = np.empty((len(numbers), 256), dtype=np.float32)
            found = cache.get_many([key_of(seed, n) for n in numbers], 256, out)
            assert found.mask.all(), f"round {round_}: {int((~found.mask).sum())} kept rows are gone"
            for n in numbers:
                assert np.array_equal(out[n], vector_of(seed, n, 256))
        assert cache.verify()[1] == 0
        cache.close()
        db = apsw.Connection(str(path))
        assert db.pragma("integrity_check") == "ok"
        db.close()
        for each in tmp_path.glob(f"{path.name}*"):
            each.unlink()
        for said in [said for _, said in started]:
            said.unlink()


def test_killed_writers_lose_nothing_that_was_kept(tmp_path):
    kill_rounds(tmp_path, 3)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_killed_writers_lose_nothing_that_was_kept_100_times(tmp_path):
    kill_rounds(tmp_path, 100)


# Damages copies of a cache, one after the other, and uses each: whatever comes of it must not be a wrong vector. Of two
# in turn the index is damaged, the vectors, and both.
_DAMAGE = textwrap.dedent(
    """
    import pathlib, random, shutil, sys
    import numpy as np
    import apsw
    from mrlclient.cache.sqlite import SQLiteCache
    from mrlclient.errors import ConfigurationError
    from tests.cache._writer import entry_of, key_of, vector_of

    source, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    first, last = int(sys.argv[3]), int(sys.argv[4])
    sound = {each.name.removeprefix(source.name): each.read_bytes() for each in source.parent.glob(source.name + "*")}
    assert sorted(sound) == ["", "-vectors-1"]
    keys = [key_of(0, n) for n in range(200)]

    def look(cache, width):
        out = np.full((200, width), np.nan, dtype=np.float32)
        mask = cache.get_many(keys, width, out).mask
        for n in np.flatnonzero(mask):
            assert np.array_equal(out[n], vector_of(0, n, width)), f"wrong vector {n}"
        return int(mask.sum())

    def damage(clean, kind, chance):
        data = bytearray(clean)
        if kind == 0:
            for _ in range(chance.choice([1, 10, 1000])):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif kind == 1:
            page = chance.randrange(len(data) // 4096) * 4096
            data[page : page + 4096] = bytes(4096)
        elif kind == 2:
            del data[chance.randrange(len(data)) :]
        elif kind == 3:
            size = chance.choice([16, 100, 4096])
            data[:size] = chance.randbytes(size)
        else:  # the structures: the heads of pages, the rows of the index at their ends, the headers of values
            for _ in range(4):
                page = chance.randrange(len(data) // 4096) * 4096
                data[page + chance.choice([chance.randrange(64), 4095 - chance.randrange(2048)])] ^= (
                    1 << chance.randrange(8)
                )
        return bytes(data)

    hits = errors = 0
    for number in range(first, last):
        chance = random.Random(number)
        kind, which = number % 5, [("",), ("",), ("-vectors-1",), ("", "-vectors-1")][number // 5 % 4]
        damaged = {name: damage(data, kind, chance) if name in which else data for name, data in sound.items()}
        path = folder / f"{number}.sqlite"
        in_use = number % 2
        for name, data in (sound if in_use else damaged).items():
            path.with_name(path.name + name).write_bytes(data)
        try:
            cache = SQLiteCache(path)
            if in_use:  # damaged while it is open
                look(cache, 64)
                for name in which:
                    with path.with_name(path.name + name).open("r+b") as file:
                        file.truncate(len(damaged[name]))
                        file.write(damaged[name])
            for width in (512, 100):
                hits += look(cache, width)
            for entry in cache.items():
                n = keys.index(entry.key) if entry.key in keys else None
                assert n is None or np.array_equal(entry.vector, vector_of(0, n, 512)), f"wrong entry {n}"
            cache.set_many([entry_of(0, n, 512) for n in range(0, 200, 7)])
            look(cache, 512)
            cache.verify()
            look(cache, 512)
            cache.prune()
            look(cache, 512)
        except (ConfigurationError, apsw.Error, OSError):
            errors += 1
        for each in folder.glob(path.name + "*"):
            each.unlink()
    print(hits, errors)
    """
)


def damage_rounds(tmp_path, first, last):
    source = tmp_path / "source.sqlite"
    command = [sys.executable, "-m", "tests.cache._writer", str(source), "0", "512", "13"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    folder = tmp_path / "damaged"
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", _DAMAGE, str(source), str(folder), str(first), str(last)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    # A signal would be a negative code.
    assert result.returncode == 0, result.stderr
    hits, errors = map(int, result.stdout.split())
    assert hits
    assert errors
    return hits, errors


def test_damage_is_a_miss_or_an_error(tmp_path):
    damage_rounds(tmp_path, 0, 60)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(0, 400, 50))
def test_damage_is_a_miss_or_an_error_400_times(tmp_path, first):
    damage_rounds(tmp_path, first, first + 50)


@pytest.fixture
def small_disk(tmp_path):
    """12 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk):
    from tests.cache._writer import entry_of

    cache = SQLiteCache(small_disk / "cache.sqlite")
    kept = 0
    with pytest.raises((apsw.Error, OSError), match=r"full|disk|No space left"):  # noqa: PT012
        while kept < 5000:
            cache.set_many([entry_of(0, n, 1536) for n in range(kept, kept + 50)])
            kept += 50
    assert kept
    out = np.empty((kept, 1536), dtype=np.float32)
    assert cache.get_many([key_of(0, n) for n in range(kept)], 1536, out).mask.all()
    for n in range(0, kept, 10):
        assert np.array_equal(out[n], vector_of(0, n, 1536))
    cache.close()
    again = SQLiteCache(small_disk / "cache.sqlite")
    assert again.verify() == (kept, 0)
    assert again.get_many([key_of(0, n) for n in range(kept)], 1536, out).mask.all()
    # What was written in vain was given back, so there is room to drop things in.
    assert again.clear() == kept
    again.set_many([entry_of(0, n, 1536) for n in range(50)])
    assert again.verify() == (50, 0)
    again.close()


MIXED = textwrap.dedent(
    """
    import random, sys, time
    import numpy as np
    from mrlclient.cache import sqlite
    from mrlclient.cache.sqlite import SQLiteCache
    from tests.cache._writer import entry_of, key_of, vector_of

    chance, until, worst = random.Random(int(sys.argv[2])), time.monotonic() + float(sys.argv[3]), 0.0
    # Uses count at once, so that rows move all the time.
    sqlite._COARSE = 0.01
    cache = SQLiteCache(sys.argv[1], max_bytes=4 * 2**20)
    while time.monotonic() < until:
        begun = time.monotonic()
        numbers, width = chance.sample(range(4000), 32), chance.choice([64, 256, 1024])
        if chance.random() < 0.5:
            cache.set_many([entry_of(0, n, width) for n in numbers])
        else:
            out = np.empty((32, width), dtype=np.float32)
            mask = cache.get_many([key_of(0, n) for n in numbers], width, out).mask
            for i in np.flatnonzero(mask):
                assert np.array_equal(out[i], vector_of(0, numbers[i], width))
        if chance.random() < 0.01:
            chance.choice([cache.prune, cache.stats, cache.close])()
        worst = max(worst, time.monotonic() - begun)
    cache.close()
    assert worst < 5, worst
    """
)


def mixed_processes(tmp_path, seconds):
    path = tmp_path / "cache.sqlite"
    processes = [
        subprocess.Popen([sys.executable, "-c", MIXED, str(path), str(n), str(seconds)], cwd=ROOT) for n in range(8)
    ]
    assert [process.wait() for process in processes] == [0] * 8
    cache = SQLiteCache(path)
    good, damaged = cache.verify()
    assert good
    assert damaged == 0
    cache.close()
    assert sum(each.stat().st_size for each in tmp_path.glob(f"{path.name}*")) <= 1.15 * 4 * 2**20
    db = apsw.Connection(str(path))
    assert db.pragma("integrity_check") == "ok"
    places = db.execute("SELECT at, size FROM vectors ORDER BY at").fetchall()
    assert sum(size for _, size in places) >= 2**20, "no more went than had to"
    assert all(at + size <= after for (at, size), (after, _) in itertools.pairwise(places))
    held = {int(each.name.rpartition("-")[2]) for each in tmp_path.glob(f"{path.name}-vectors-*")}
    assert {at >> 32 for at, _ in places} <= held
    # Between two commits somebody counts the dead bytes as they are.
    for number, size, dead in db.execute("SELECT number, size, dead FROM segments"):
        live = db.execute("SELECT total(size) FROM vectors WHERE at >> 32 = ?", (number,)).get
        assert size - dead == live
    db.close()


def test_eight_processes_that_do_everything(tmp_path):
    mixed_processes(tmp_path, 2)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_eight_processes_that_do_everything_for_a_minute_and_a_half(tmp_path):
    mixed_processes(tmp_path, 90)
