"""Vectors to bytes and back; how they are laid out says `_layout`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from mrlclient.cache._layout import (
    FLOAT16_LEAST,
    FLOAT16_MAX,
    HEADER,
    KEY_BYTES,
    ONE_HEADER,
    STARTS,
    SUM_BYTES,
    TYPES,
    StoredType,
    blocks_for,
    blocks_of,
    encoded_size,
    prefix_size,
    size_of,
)
from mrlclient.cache.base import CorruptEntryError, Entry

__all__ = [
    "Decoded",
    "Encoder",
    "StoredType",
    "decode",
    "decode_bytes",
    "decode_into",
    "decode_many",
    "encode",
    "encoded_size",
    "numbers_of",
    "prefix_size",
]

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Decoded(NamedTuple):
    """What came of reading values.

    Attributes:
        good: (n,) bool, whose numbers were written.
        damaged: (n,) bool, which are not what was stored. Those that are neither are too narrow, too old or not there.
        tokens: Tokens of the good ones, summed.
        usd: What those had cost, in USD.
    """

    good: NDArray[np.bool_]
    damaged: NDArray[np.bool_]
    tokens: float
    usd: float


def encode(entry: Entry, stored_type: StoredType = "float32") -> bytes:
    """The value of an entry; as float32 where its numbers are too large or too small for float16."""
    return bytes(Encoder().encode([entry], stored_type)[0])


class Encoder:
    """Makes values in memory that it keeps, as memory that is new costs more than what is done in it.

    Args:
        kept_bytes: Bytes to keep: of about twice the values of a call.
    """

    def __init__(self, kept_bytes: int = 0) -> None:
        self._kept = np.empty(kept_bytes, dtype=np.uint8)
        self._taken = 0

    def encode(self, entries: Sequence[Entry], stored_type: StoredType, now: float | None = None) -> list[memoryview]:
        """The values of entries, in their order, good until the next call; `now` for those that are not dated."""
        self._taken, now = 0, now or time.time()
        values: dict[int, memoryview] = {}
        widths: dict[int, list[int]] = {}
        for i, entry in enumerate(entries):
            widths.setdefault(len(entry.vector), []).append(i)
        for width, rows in widths.items():
            numbers = self._room(len(rows), width * 4).view(np.float32)
            np.concatenate([entries[i].vector for i in rows], out=numbers.reshape(-1))
            kinds: list[tuple[StoredType, NDArray[np.intp]]] = [(stored_type, np.arange(len(rows)))]
            if stored_type == "float16":
                sizes = np.abs(numbers)
                beyond = ((sizes > FLOAT16_MAX) & (sizes < np.inf)).any(axis=1)
                # A row of numbers that are all tiny would lose its direction.
                beyond |= np.fmax.reduce(sizes, axis=1) < FLOAT16_LEAST * math.sqrt(width)
                kinds = [("float16", np.flatnonzero(~beyond)), ("float32", np.flatnonzero(beyond))]
            for kind, those in kinds:
                if len(those):
                    chosen = [rows[i] for i in those.tolist()]
                    part = numbers if len(those) == len(rows) else numbers[those]
                    made = self._encode([entries[i] for i in chosen], part, STARTS[kind], now)
                    values.update(zip(chosen, made, strict=True))
        return [values[i] for i in range(len(entries))]

    def _encode(
        self, entries: list[Entry], numbers: NDArray[np.float32], start: int, now: float
    ) -> Iterator[memoryview]:
        """The values of rows of one width and one type."""
        dtype, (count, width) = TYPES[start], numbers.shape
        size = size_of(width, dtype.itemsize)
        values = self._room(count, size)
        header = values[:, : HEADER.itemsize].view(HEADER)[:, 0]
        header["start"] = start
        header["width"] = width
        header["tokens"] = [entry.tokens for entry in entries]
        header["usd"] = [entry.usd for entry in entries]
        header["created"] = [entry.created or now for entry in entries]
        header["model"] = [entry.model.encode("utf-8")[:64] for entry in entries]
        header["key"] = _words([entry.key for entry in entries])
        flat, begins = values.reshape(-1).data, range(0, count * size, size)
        for first, stop, at, sum_at in blocks_of(width, dtype.itemsize):
            values[:, at:sum_at].view(dtype)[...] = numbers[:, first:stop]
            # Each from the beginning: together twice the bytes, but one call for each, where a running sum needs three.
            sums = [xxhash.xxh3_64_intdigest(flat[row : row + sum_at]) for row in begins]
            values[:, sum_at : sum_at + SUM_BYTES].view("<u8")[:, 0] = sums
        return (flat[row : row + size] for row in begins)

    def _room(self, count: int, size: int) -> NDArray[np.uint8]:
        begin, self._taken = self._taken, self._taken + -(-count * size // 64) * 64
        if self._taken > len(self._kept):
            return np.empty((count, size), dtype=np.uint8)
        return self._kept[begin : begin + count * size].reshape(count, size)


def decode_many(
    keys: Sequence[bytes],
    values: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    out: NDArray[np.float32],
    places: NDArray[np.intp] | None = None,
    not_before: float = 0.0,
) -> Decoded:
    """Verifies the beginnings of values and writes their first numbers.

    Args:
        keys: n keys.
        values: (n, b) bytes, C-contiguous, b > 128: of each value `prefix_size(d)` bytes or more, or all of it.
        lengths: (n,) how many of the b bytes are the value's; 0 where there is none.
        out: (m, d) float32 to write into. Rows of values that are not good are left as they are.
        places: (n,) the row of `out` for each value; by default as many rows as there are values.
        not_before: The oldest acceptable time of creation, in seconds since 1970.
    """
    count, stride = values.shape
    if count == 1:
        into = out[0 if places is None else int(places[0])]
        return _decode_one(keys[0], values[0].data[: int(lengths[0])], into, not_before)
    wanted = out.shape[1]
    good, sound = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    header = values[:, : HEADER.itemsize].view(HEADER)[:, 0]
    named = (header["key"] == _words(keys)).all(axis=1)
    flat = values.reshape(-1).data
    # The header is covered by each checksum: nothing of it is believed before one was looked at.
    kinds = set(zip(header["start"].tolist(), header["width"].tolist(), strict=True))
    for start, width in kinds:
        dtype = TYPES.get(start)
        if dtype is None or not width:
            continue
        blocks = blocks_for(wanted, width, dtype.itemsize)
        sum_at = blocks[-1].sum_at
        those = named & (lengths >= sum_at + SUM_BYTES)
        if len(kinds) > 1:
            those &= (header["start"] == start) & (header["width"] == width)
        rows: Any = slice(None)
        if not those.all():
            rows = np.flatnonzero(those)
            if not len(rows):
                continue
        begins = range(0, count * stride, stride) if isinstance(rows, slice) else (rows * stride).tolist()
        found = np.array([xxhash.xxh3_64_intdigest(flat[row : row + sum_at]) for row in begins], dtype=np.uint64)
        kept = values[rows, sum_at : sum_at + SUM_BYTES].view("<u8")[:, 0]
        sound[rows] = found == kept
        if width < wanted:
            continue
        good[rows] = sound[rows] & (header["created"][rows] >= not_before)
        if not (isinstance(rows, slice) and good.all()):
            rows = np.flatnonzero(those & good)
        chosen: Any = rows if places is None else places[rows]
        for first, stop, at, _ in blocks:
            stop = min(stop, wanted)
            out[chosen, first:stop] = values[:, at : at + (stop - first) * dtype.itemsize].view(dtype)[rows]
    tokens = header["tokens"][good].sum(dtype=np.float64)
    return Decoded(good, ~sound & (lengths > 0), float(tokens), float(header["usd"][good].sum()))


def _decode_one(key: bytes, value: memoryview, out: NDArray[np.float32], not_before: float) -> Decoded:
    """As `decode_many`, of one value: what numpy takes for a batch would be most of the work."""
    sound = good = False
    tokens = usd = 0.0
    if len(value) >= HEADER.itemsize:
        start, width, tokens, usd, created, held = ONE_HEADER.unpack_from(value)
        dtype = TYPES.get(start)
        if dtype is not None and width and held == key:
            blocks = blocks_for(len(out), width, dtype.itemsize)
            sum_at = blocks[-1].sum_at
            kept = value[sum_at : sum_at + SUM_BYTES]
            sound = len(kept) == SUM_BYTES and int.from_bytes(kept, "little") == xxhash.xxh3_64_intdigest(
                value[:sum_at]
            )
            good = sound and width >= len(out) and created >= not_before
            if good:
                for first, stop, at, _ in blocks:
                    stop = min(stop, len(out))
                    out[first:stop] = np.frombuffer(value, dtype, stop - first, at)
    damaged = len(value) > 0 and not sound
    return Decoded(np.array([good]), np.array([damaged]), tokens if good else 0.0, usd if good else 0.0)


def decode_bytes(
    keys: Sequence[bytes],
    values: Sequence[bytes],
    out: NDArray[np.float32],
    places: NDArray[np.intp] | None = None,
    not_before: float = 0.0,
) -> Decoded:
    """As `decode_many`, of values that stand each by itself, empty where there is none."""
    lengths = [len(value) for value in values]
    most = max(HEADER.itemsize, *lengths)
    rows = np.zeros((len(values), most), dtype=np.uint8)
    flat = rows.reshape(-1).data
    for i, (value, length) in enumerate(zip(values, lengths, strict=True)):
        flat[i * most : i * most + length] = value
    return decode_many(keys, rows, np.array(lengths), out, places, not_before)


def decode_into(
    key: bytes, value: bytes, out: NDArray[np.float32], not_before: float = 0.0
) -> tuple[float, float] | None:
    """As `decode_many`, of one value, into (d,) float32.

    Returns:
        Its tokens and USD; None where it is narrower than `out`, or older than `not_before`.

    Raises:
        CorruptEntryError: If it is not what was stored, or not under this key.
    """
    decoded = _decode_one(key, memoryview(value), out, not_before)
    if decoded.damaged[0] or not value:
        raise CorruptEntryError
    return (decoded.tokens, decoded.usd) if decoded.good[0] else None


def decode(key: bytes | None, value: bytes) -> Entry:
    """The whole entry of a value; of whatever key it says, if none is given.

    Raises:
        CorruptEntryError: If it is not what was stored, or not under this key.
    """
    if len(value) < HEADER.itemsize:
        raise CorruptEntryError
    start, width, tokens, usd, created, model, _ = np.frombuffer(value, HEADER, 1)[0].item()
    key = key or value[HEADER.itemsize - KEY_BYTES : HEADER.itemsize]
    dtype = TYPES.get(start)
    if dtype is None or len(value) != size_of(width, dtype.itemsize):
        # Looked at before the memory is taken: nothing of a header is believed yet.
        raise CorruptEntryError
    vector = np.empty(width, dtype=np.float32)
    decode_into(key, value, vector)
    return Entry(key, vector, model.decode("utf-8", "ignore"), tokens, usd, created)


def numbers_of(keys: Sequence[bytes]) -> NDArray[np.int64]:
    """A number for each key, for an index of integers. Different keys may have the same: the value says whose it is."""
    return np.array([xxhash.xxh3_64_intdigest(key) for key in keys], dtype=np.uint64).view(np.int64)


def _words(keys: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(keys), dtype="<u8").reshape(len(keys), KEY_BYTES // 8)
