"""How a vector is stored: a header, then blocks of 64 numbers, each followed by a checksum of all before it.

So the beginning of a value, up to the end of any block, can be verified without the rest: a narrow request reads a
prefix only. Little-endian throughout::

    "MRLV" | version u8 | type u8 | 2 × 0 | width u32 | tokens f32 | usd f64 | created f64 | model 64 bytes
    64 numbers | xxh3-64 of everything before | 64 numbers | xxh3-64 | … | the rest of the numbers | xxh3-64
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Literal

import numpy as np
import xxhash

from mrlclient.cache.base import CorruptEntryError, Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Types that a vector may be stored as.
StoredType = Literal["float32", "float16"]

_BLOCK = 64
_SUM_BYTES = 8
_MAGIC = b"MRLV"
_VERSION = 1
_HEADER = struct.Struct("<4sBBHIfdd64s")
_FLOAT16_MAX = float(np.finfo(np.float16).max)
_SUM = struct.Struct("<Q")
_TYPES: dict[int, np.dtype[np.floating]] = {1: np.dtype("<f4"), 2: np.dtype("<f2")}
_CODES: dict[str, int] = {"float32": 1, "float16": 2}


def encoded_size(width: int, stored_type: StoredType = "float32") -> int:
    """Bytes of a value of this width, or of the beginning of a wider one that holds as many numbers."""
    return _size(width, _TYPES[_CODES[stored_type]])


def prefix_size(width: int) -> int:
    """Bytes that are enough to read `width` numbers of any value: whole blocks of the wider type."""
    return encoded_size(-(-width // _BLOCK) * _BLOCK)


def encode(entry: Entry, stored_type: StoredType = "float32") -> bytes:
    """The value of an entry; as float32 where a number is beyond float16."""
    if stored_type == "float16" and np.abs(entry.vector).max(initial=0.0) > _FLOAT16_MAX:
        stored_type = "float32"
    code = _CODES[stored_type]
    dtype, width = _TYPES[code], len(entry.vector)
    created = entry.created or time.time()
    model = entry.model.encode("utf-8")[:64]
    # In place: a piece of its own for every block costs twice as much.
    value = bytearray(_size(width, dtype))
    _HEADER.pack_into(value, 0, _MAGIC, _VERSION, code, 0, width, entry.tokens, entry.usd, created, model)
    full, stride = width // _BLOCK, _BLOCK * dtype.itemsize + _SUM_BYTES
    blocks = np.ndarray((full, _BLOCK), dtype, value, _HEADER.size, (stride, dtype.itemsize))
    blocks[...] = entry.vector[: full * _BLOCK].reshape(full, _BLOCK)
    if width > full * _BLOCK:
        rest = np.frombuffer(value, dtype, width - full * _BLOCK, _HEADER.size + full * stride)
        rest[...] = entry.vector[full * _BLOCK :]
    running, view, done = xxhash.xxh3_64(), memoryview(value), 0
    ends = list(range(_HEADER.size + stride, _HEADER.size + full * stride + 1, stride))
    for end in ends if full * _BLOCK == width else [*ends, len(value)]:
        running.update(view[done : end - _SUM_BYTES])
        done = end - _SUM_BYTES
        _SUM.pack_into(value, done, running.intdigest())
    return bytes(value)


def decode_into(value: bytes, out: NDArray[np.float32], not_before: float = 0.0) -> tuple[float, float] | None:
    """Verifies the beginning of a value and writes its first numbers.

    Args:
        value: The value, or at least `prefix_size(len(out))` bytes of it.
        out: (d,) float32 to write into.
        not_before: The oldest acceptable time of creation, in seconds since 1970.

    Returns:
        Its tokens and USD; None where it is narrower than `out`, or older than `not_before`.

    Raises:
        CorruptEntryError: If it is not what was stored.
    """
    width, dtype, tokens, usd, created, _ = _header(value)
    wanted = len(out)
    # The header is covered by the first checksum, so nothing of it is believed before that was looked at.
    full, rest = divmod(min(-(-wanted // _BLOCK) * _BLOCK, width), _BLOCK)
    stride = _BLOCK * dtype.itemsize + _SUM_BYTES
    end = _HEADER.size + full * stride + (rest * dtype.itemsize + _SUM_BYTES if rest else 0)
    _verify(value, end)
    if width < wanted or created < not_before:
        return None
    whole = min(wanted // _BLOCK, full)
    if whole:
        blocks = np.ndarray((whole, _BLOCK), dtype, value, _HEADER.size, (stride, dtype.itemsize))
        out[: whole * _BLOCK].reshape(whole, _BLOCK)[...] = blocks
    if wanted > whole * _BLOCK:
        left = wanted - whole * _BLOCK
        out[whole * _BLOCK :] = np.frombuffer(value, dtype, left, _HEADER.size + whole * stride)
    return tokens, usd


def decode(key: bytes, value: bytes) -> Entry:
    """The whole entry of a value.

    Raises:
        CorruptEntryError: If it is not what was stored.
    """
    width, dtype, tokens, usd, created, model = _header(value)
    if len(value) != _size(width, dtype):
        # Looked at before the memory is taken: nothing of a header is believed yet.
        raise CorruptEntryError
    vector = np.empty(width, dtype=np.float32)
    decode_into(value, vector)
    return Entry(key, vector, model.rstrip(b"\0").decode("utf-8", "ignore"), tokens, usd, created)


def _size(width: int, dtype: np.dtype[np.floating]) -> int:
    return _HEADER.size + width * dtype.itemsize + -(-width // _BLOCK) * _SUM_BYTES


def _header(value: bytes) -> tuple[int, np.dtype[np.floating], float, float, float, bytes]:
    if len(value) < _HEADER.size:
        raise CorruptEntryError
    magic, version, code, _, width, tokens, usd, created, model = _HEADER.unpack_from(value)
    if magic != _MAGIC or version != _VERSION or code not in _TYPES or width == 0:
        raise CorruptEntryError
    return width, _TYPES[code], tokens, usd, created, model


def _verify(value: bytes, end: int) -> None:
    if len(value) < end:
        raise CorruptEntryError
    view = memoryview(value)
    if xxhash.xxh3_64_intdigest(view[: end - _SUM_BYTES]) != _SUM.unpack_from(value, end - _SUM_BYTES)[0]:
        raise CorruptEntryError
