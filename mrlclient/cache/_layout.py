"""How a vector is stored: a header, then its numbers in blocks, each followed by a checksum of all before it.

So the beginning of a value, up to the end of any block, can be verified without the rest, and by one checksum: a narrow
request reads a prefix only. Blocks end at 64 numbers, at 128, 256, 512 and so on, and with the last number: few sums,
and never twice as much read as is wanted. Little-endian throughout::

    "MRLV" | version u8 | type u8 | 2 × 0 | width u32 | tokens f32 | usd f64 | created f64 | model 64 B | key 32 B
    64 numbers | xxh3-64 of everything before | 64 numbers | xxh3-64 | 128 numbers | xxh3-64 | … | the rest | xxh3-64

The key is in it, so whatever points at a value, a value never passes for another text's. Many values are made, and
read, at once: what is done once for a batch costs next to nothing for a row.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Literal, NamedTuple

import numpy as np

#: Types that a vector may be stored as.
StoredType = Literal["float32", "float16"]

_FIRST_BLOCK = 64
SUM_BYTES = 8
_VERSION = 2
KEY_BYTES = 32
# The magic, the version and the type are one number to compare.
HEADER = np.dtype(
    [
        ("start", "<u8"),
        ("width", "<u4"),
        ("tokens", "<f4"),
        ("usd", "<f8"),
        ("created", "<f8"),
        ("model", "S64"),
        ("key", "<u8", (4,)),
    ]
)
#: As HEADER, of one value.
ONE_HEADER = Struct("<QIfdd64x32s")
FLOAT16_MAX = float(np.finfo(np.float16).max)
#: Smaller numbers have fewer bits.
FLOAT16_LEAST = float(np.finfo(np.float16).smallest_normal)


def _start(code: int) -> int:
    return int.from_bytes(b"MRLV" + bytes([_VERSION, code, 0, 0]), "little")


STARTS: dict[str, int] = {"float32": _start(1), "float16": _start(2)}
TYPES: dict[int, np.dtype[np.floating]] = {_start(1): np.dtype("<f4"), _start(2): np.dtype("<f2")}


class Block(NamedTuple):
    """Where numbers `first` to `stop` stand in a value, and their checksum."""

    first: int
    stop: int
    at: int
    sum_at: int


@lru_cache(maxsize=256)
def blocks_of(width: int, itemsize: int) -> tuple[Block, ...]:
    """All blocks of a value."""
    made, first, at = [], 0, HEADER.itemsize
    while first < width:
        stop = min(max(_FIRST_BLOCK, 2 * first), width)
        sum_at = at + (stop - first) * itemsize
        made.append(Block(first, stop, at, sum_at))
        first, at = stop, sum_at + SUM_BYTES
    return tuple(made)


@lru_cache(maxsize=256)
def blocks_for(wanted: int, width: int, itemsize: int) -> tuple[Block, ...]:
    """Those that hold the first numbers that are wanted; at least one."""
    return tuple(block for block in blocks_of(width, itemsize) if block.first < max(wanted, 1))


def size_of(width: int, itemsize: int) -> int:
    """Bytes of a value."""
    blocks = blocks_of(width, itemsize)
    return blocks[-1].sum_at + SUM_BYTES if blocks else HEADER.itemsize


def encoded_size(width: int, stored_type: StoredType = "float32") -> int:
    """Bytes of a value of this width, or of the beginning of a wider one that holds as many numbers."""
    return size_of(width, TYPES[STARTS[stored_type]].itemsize)


@lru_cache(maxsize=256)
def prefix_size(width: int) -> int:
    """Bytes that are enough to read `width` numbers of any value: whole blocks of the wider type."""
    stop = _FIRST_BLOCK
    while stop < width:
        stop *= 2
    return encoded_size(stop)
