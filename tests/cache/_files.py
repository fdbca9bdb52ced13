"""Fills the files of a cache, reads them, looks at them from outside, and damages them."""

from __future__ import annotations

import apsw
import numpy as np

from mrlclient.cache import codec
from tests.cache._writer import entry_of, key_of, vector_of

WIDTH = 64


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


def damage(path, needle, offset):
    """Changes one byte after the last place where `needle` stands, everywhere in the file."""
    data = bytearray(path.read_bytes())
    assert needle in data
    place = data.rfind(needle)
    data[place + offset] ^= 0x40
    path.write_bytes(data)


def change(path, *statements):
    """Writes into the index what the cache would not."""
    db = apsw.Connection(str(path))
    for statement in statements:
        db.execute(*statement)
    db.close()


def number(n, seed=0):
    return int(codec.numbers_of([key_of(seed, n)])[0])
