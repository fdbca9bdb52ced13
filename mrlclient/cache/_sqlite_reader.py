"""How values are found and read: a look-up in the index, a read from a flat file for each, one check for all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw
import numpy as np

from mrlclient.cache import codec
from mrlclient.cache._segments import Segments
from mrlclient.cache.base import CorruptEntryError, Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bytes read before they are checked and copied, all together: a batch of 256 rows of 3,072 numbers at once.
_READ_BYTES = 4 * 2**20

_FIND = "SELECT key, at, size, used < ? FROM vectors WHERE key IN (SELECT value FROM carray(?)) AND width >= ?"
_FIND_ONE = "SELECT key, at, size, used < ? FROM vectors WHERE key = ? AND width >= ?"
_AFTER = "SELECT key, at, size FROM vectors WHERE at > ? AND typeof(at) = 'integer' ORDER BY at LIMIT ?"
_NOWHERE = "SELECT key, at FROM vectors WHERE typeof(at) <> 'integer'"


class Row(NamedTuple):
    """A row of the index, and what it leads to.

    Attributes:
        key: The number of the key.
        at: The place.
        entry: What is there; None where that is not what was kept.
    """

    key: int
    at: Any
    entry: Entry | None


class Request:
    """Rows that are wanted, and what came of it.

    Args:
        keys: n keys.
        out: (n, width) float32 to write into.
        oldest: The oldest acceptable time of creation.
        stale: Rows that were used before are used again.

    Attributes:
        mask: (n,) bool, which rows were written.
        tokens: Tokens that those had taken.
        usd: What those had cost.
        used: The numbers of the keys of those that were stale.
        damaged: Key and place of rows that lead to nothing that was kept.
    """

    def __init__(self, keys: Sequence[bytes], out: NDArray[np.float32], oldest: float, stale: float) -> None:
        self.keys = keys
        self.numbers = codec.numbers_of(keys)
        self.out = out
        self.oldest = oldest
        self.stale = stale
        self.mask = np.zeros(len(keys), dtype=np.bool_)
        self.tokens = self.usd = 0.0
        self.used: list[int] = []
        self.damaged: set[tuple[int, Any]] = set()


class Reader:
    """Reads values. Whoever uses it holds a lock.

    Args:
        db: A connection.
        files: The flat files.
    """

    def __init__(self, db: apsw.Connection, files: Segments) -> None:
        self._db = db
        self._files = files
        # Kept: memory that is new costs as much as the read.
        self._buffer = np.empty(0, dtype=np.uint8)

    def find(self, request: Request) -> None:
        """Writes the rows that are there."""
        lost = self._find(request, request.numbers)
        if lost:
            # Another process may have moved them under way. What is in the same place as before is damaged.
            again = self._find(request, np.array(list(lost), dtype=np.int64))
            request.damaged = lost.items() & again.items()

    def rows(self, after: int, most: int) -> list[Row]:
        """Some rows, in the order of their places."""
        found: list[Any] = self._db.execute(_AFTER, (after, most)).fetchall()
        return [Row(key, at, self._entry(key, at, size)) for key, at, size in found]

    def nowhere(self) -> list[Row]:
        """Rows that have no place."""
        found: list[Any] = self._db.execute(_NOWHERE).fetchall()
        return [Row(key, at, None) for key, at in found]

    def _find(self, request: Request, numbers: NDArray[np.int64]) -> dict[int, Any]:
        """Writes the rows of some numbers. Returns the places of those that could not be read."""
        row_of = {number: row for row, number in enumerate(request.numbers.tolist())}
        width = request.out.shape[1]
        # One number needs no table to be looked up in.
        query, wanted = (_FIND_ONE, int(numbers[0])) if len(numbers) == 1 else (_FIND, apsw.carray(numbers))
        found: Any = self._db.execute(query, (request.stale, wanted, width))
        held = [(row_of[key], key, at, size, stale) for key, at, size, stale in found]
        # In the order of the rows, so that those of a whole batch are copied at once.
        held.sort(key=itemgetter(0))
        most = codec.prefix_size(width)
        step = max(1, _READ_BYTES // most)
        if len(self._buffer) < step * most:
            self._buffer = np.zeros(step * most, dtype=np.uint8)
        lost: dict[int, Any] = {}
        for begin in range(0, len(held), step):
            self._read(request, held[begin : begin + step], most, lost)
        return lost

    def _read(
        self, request: Request, held: list[tuple[int, int, Any, Any, int]], most: int, lost: dict[int, Any]
    ) -> None:
        values = self._buffer[: len(held) * most]
        into, read, lengths, begin = values.data, self._files.read, list[int](), 0
        for _, _, at, size, _ in held:
            try:
                length = min(size, most)
                lengths.append(length if length > 0 and read(at, into[begin : begin + length]) else 0)
            except (TypeError, OverflowError):
                lengths.append(0)  # an index that is damaged may say anything
            begin += most
        places = np.array([row for row, *_ in held], dtype=np.intp)
        first, stop = int(places[0]), int(places[-1]) + 1
        alone = stop - first == len(held)
        decoded = codec.decode_many(
            [request.keys[row] for row, *_ in held],
            values.reshape(len(held), most),
            np.array(lengths),
            request.out[first:stop] if alone else request.out,
            None if alone else places,
            request.oldest,
        )
        request.mask[places] = decoded.good
        request.tokens += decoded.tokens
        request.usd += decoded.usd
        if not request.stale and np.count_nonzero(decoded.good) == len(held):
            return
        outcomes = zip(held, lengths, decoded.good.tolist(), decoded.damaged.tolist(), strict=True)
        for (_, key, at, _, stale), length, good, damaged in outcomes:
            if good and stale:
                request.used.append(key)
            if damaged or not length:
                lost[key] = at

    def _entry(self, key: int, at: Any, size: Any) -> Entry | None:
        with suppress(CorruptEntryError):
            value = self._files.value(at, size)
            if value is not None:
                entry = codec.decode(None, value)
                # A place may be good, but another text's.
                return entry if codec.numbers_of([entry.key])[0] == key else None
        return None
