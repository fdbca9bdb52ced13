"""The log of values: appended to flat files, with an index in SQLite of where each stands.

The oldest values stand in the file with the lowest number. What is replaced, moved or dropped leaves dead bytes, which
go with their file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import apsw

from mrlclient.cache import _sqlite_file, codec
from mrlclient.cache._segments import OFFSET_BITS, Segments, place
from mrlclient.keys import Entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: A new file is begun when one is as large as this part of the whole: so little goes at once, and not too many are
#: open. They are dropped and compacted whole, so a compaction never takes long.
_PARTS = 8
_SEGMENT_BYTES = (2**22, 2**28)
#: Where the whole is bounded, it may be small.
_LEAST_BOUNDED = 2**17
#: A file that is dead by this share is compacted: by a write, and by `prune`.
_COMPACT_AT = 0.5
_PRUNE_AT = 0.1
#: Values that are made at once, and moved at once.
_ENCODE_BYTES = 2**19
_MOVE_BYTES = 2**22

# Keys come in any order, and a B-tree is fastest where its key is the row's own number.
_HELD = """
SELECT key, at, size, ifnull(CAST(width AS INTEGER), 0), ifnull(CAST(created AS REAL), 0) FROM vectors
WHERE key IN (SELECT value FROM carray(?))
"""
_USED = "SELECT key, at, size FROM vectors WHERE key IN (SELECT value FROM carray(?)) AND used < ? ORDER BY at"
_WITHIN = "SELECT key, at, size FROM vectors WHERE at >= ? AND at < ? ORDER BY at"
_KEEP = "INSERT OR REPLACE INTO vectors (key, at, size, width, created, used) VALUES (?, ?, ?, ?, ?, ?)"
_SIZES = "SELECT at >> ?, CAST(total(size) AS INTEGER) FROM vectors WHERE created < ? GROUP BY 1"


class ValueLog:
    """Reads and writes it. All that changes anything is called within `writing`.

    Args:
        db: A connection.
        files: The flat files.
        max_bytes: Bytes that all files may take.
    """

    def __init__(self, db: apsw.Connection, files: Segments, max_bytes: int | None) -> None:
        self._db = db
        self._files = files
        self._max_bytes = max_bytes
        #: Of each file, by number: its bytes, and how many of them are dead.
        self._segments: dict[int, tuple[int, int]] = {}
        self._dropped: list[int] = []
        self._tidied = False
        self._encoder = codec.Encoder(2 * _ENCODE_BYTES + 2**16)

    @contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """One transaction, by one process at a time. Files go after it: what is not kept in the index was not done."""
        self._dropped.clear()
        try:
            with _sqlite_file.transaction(self._db):
                before = self._load()
                yield self._db
                for number in before.keys() - self._segments.keys():
                    self._db.execute("DELETE FROM segments WHERE number = ?", (number,))
                changed = [(number, *has) for number, has in self._segments.items() if before.get(number) != has]
                self._db.executemany("INSERT OR REPLACE INTO segments (number, size, dead) VALUES (?, ?, ?)", changed)
        except BaseException:
            # Another writer may make a file of the same number, in the place of one that was made in vain.
            self._files.close()
            raise
        for number in self._dropped:
            self._files.drop(number)

    def add(self, entries: Sequence[Entry], stored_type: codec.StoredType, now: float, oldest: float) -> None:
        """Keeps entries, except where one is held that is at least as wide, and made at `oldest` or later."""
        keys = codec.numbers_of([entry.key for entry in entries])
        held = {key: more for key, *more in self._db.execute(_HELD, (apsw.carray(keys),))}
        kept = []
        for key, entry in zip(keys.tolist(), entries, strict=True):
            if key in held:
                at, size, width, created = held[key]
                if width >= len(entry.vector) and created >= oldest:
                    continue
                self._bury(at, size)
            kept.append((key, entry))
        while kept:
            # A few at a time: they are still in the processor's own memory when they are written.
            step = max(1, _ENCODE_BYTES // codec.encoded_size(len(kept[0][1].vector)))
            part, kept = kept[:step], kept[step:]
            values = self._encoder.encode([entry for _, entry in part], stored_type, now)
            rows = [
                (key, at, len(value), len(entry.vector), entry.created or now, now)
                for (key, entry), value, at in zip(part, values, self._append(values), strict=True)
            ]
            self._db.executemany(_KEEP, rows)

    def use(self, keys: NDArray[np.int64], now: float, stale: float) -> None:
        """Moves what was used to the end, except what came there at `stale` or later."""
        self._move(self._db.execute(_USED, (apsw.carray(keys), stale)).fetchall())
        self._db.execute(
            "UPDATE vectors SET used = ? WHERE key IN (SELECT value FROM carray(?)) AND used < ?",
            (now, apsw.carray(keys), stale),
        )

    def forget(self, places: Iterable[tuple[int, int]]) -> int:
        """Drops rows, by key and place; those that are in another place by now stay. Returns the number dropped."""
        dropped = 0
        for key, at in places:
            sizes = self._db.execute("DELETE FROM vectors WHERE key = ? AND at IS ? RETURNING size", (key, at))
            for (size,) in sizes.fetchall():
                self._bury(at, size)
                dropped += 1
        return dropped

    def expire(self, oldest: float) -> None:
        """Drops what was made before."""
        sizes: list[Any] = self._db.execute(_SIZES, (OFFSET_BITS, oldest)).fetchall()
        for number, size in sizes:
            if number is not None:
                self._bury(place(number, 0), size)
        self._db.execute("DELETE FROM vectors WHERE created < ?", (oldest,))

    def evict(self) -> None:
        """Drops the files that are longest unused until the rest is small enough."""
        if self._max_bytes is None:
            return
        # The log's part is set aside, not counted: to drop things would only make it longer.
        most = self._max_bytes - self._max_bytes // _sqlite_file.LOG_PART
        dropped = False
        while self._bytes() > most and any(size for size, _ in self._segments.values()):
            self._drop(min(self._segments))
            dropped = True
        if dropped:
            self._db.execute("PRAGMA incremental_vacuum").fetchall()

    def compact(self) -> None:
        """Compacts a file that is mostly dead, if there is one. The newest is not looked at: it still grows."""
        newest = max(self._segments)
        for number, (size, dead) in self._segments.items():
            if number != newest and dead > _COMPACT_AT * size:
                self._compact(number)
                return

    def compact_all(self) -> None:
        """Compacts whatever is dead in part."""
        for number, (size, dead) in list(self._segments.items()):
            if dead > _PRUNE_AT * size:
                self._compact(number)

    def clear(self) -> None:
        """Drops everything."""
        self._db.execute("DELETE FROM vectors")
        for number in list(self._segments):
            self._drop(number)

    def recount(self) -> None:
        """Counts again how much of each file is dead."""
        sizes: list[Any] = self._db.execute(_SIZES, (OFFSET_BITS, float("inf"))).fetchall()
        live: dict[int, int] = dict(sizes)
        self._segments = {
            number: (size, max(0, size - live.get(number, 0))) for number, (size, _) in self._segments.items()
        }

    def _load(self) -> dict[int, tuple[int, int]]:
        self._segments = {}
        for row in self._db.execute("SELECT number, size, dead FROM segments ORDER BY number"):
            if not all(isinstance(value, int) and 0 <= value < 2**31 for value in row):
                raise apsw.CorruptError("the table of segments is damaged")
            number, size, dead = row
            self._segments[number] = size, dead
        if not self._segments:
            raise apsw.CorruptError("the table of segments is empty")
        if not self._tidied:
            # A process that was killed leaves files that it had not put into the index, or had taken out of it.
            for number in set(self._files.numbers()) - self._segments.keys():
                self._files.drop(number)
            self._tidied = True
        return self._segments.copy()

    def _bytes(self) -> int:
        return _sqlite_file.index_bytes(self._db) + sum(size for size, _ in self._segments.values())

    def _limit(self) -> int:
        """Bytes at which a file is large enough."""
        least, most = _SEGMENT_BYTES
        whole = self._max_bytes
        if whole is None:
            whole = sum(size for size, _ in self._segments.values())
        else:
            least = _LEAST_BOUNDED
        return min(max(whole // _PARTS, least), most)

    def _bury(self, at: Any, size: Any) -> None:
        # An index that is damaged may say anything.
        if isinstance(at, int) and isinstance(size, int) and at >> OFFSET_BITS in self._segments:
            number = at >> OFFSET_BITS
            held, dead = self._segments[number]
            self._segments[number] = held, min(held, dead + max(0, size))

    def _begin(self) -> int:
        """A new file; its number was never used before."""
        number = max(self._segments) + 1
        self._segments[number] = 0, 0
        return number

    def _append(self, pieces: Sequence[memoryview | bytes]) -> list[int]:
        """Writes values at the end, and says where each stands."""
        places: list[int] = []
        limit = self._limit()
        while len(places) < len(pieces):
            number = max(self._segments)
            size, dead = self._segments[number]
            if size >= limit or (size and not self._files.is_good(number, size)):
                number = self._begin()
                size = dead = 0
            if not size and not self._files.is_good(number, 0):
                self._files.create(number)
            begin, end = len(places), size
            while len(places) < len(pieces) and end < limit:
                places.append(place(number, end))
                end += len(pieces[len(places) - 1])
            self._files.append(place(number, size), pieces[begin : len(places)])
            self._segments[number] = end, dead
        return places

    def _move(self, rows: list[Any]) -> None:
        """Writes held values, by key, place and size, once more at the end. What cannot be read is dropped."""
        while rows:
            pieces, size = list[bytes](), 0
            moved, gone = list[tuple[int, int]](), list[tuple[int, int]]()
            for key, at, length in rows:
                if size > _MOVE_BYTES:
                    break
                value = self._files.value(at, length)
                (gone if value is None else moved).append((key, at))
                if value is not None:
                    pieces.append(value)
                    size += length
            rows = rows[len(moved) + len(gone) :]
            self.forget(gone)
            places = self._append(pieces)
            self._db.executemany(
                "UPDATE vectors SET at = ? WHERE key = ?",
                [(at, key) for (key, _), at in zip(moved, places, strict=True)],
            )
            for (_, at), piece in zip(moved, pieces, strict=True):
                self._bury(at, len(piece))

    def _compact(self, number: int) -> None:
        if number == max(self._segments):
            self._begin()
        self._move(self._db.execute(_WITHIN, (place(number, 0), place(number + 1, 0))).fetchall())
        self._drop(number)

    def _drop(self, number: int) -> None:
        if number == max(self._segments):
            self._begin()
        self._db.execute("DELETE FROM vectors WHERE at >= ? AND at < ?", (place(number, 0), place(number + 1, 0)))
        del self._segments[number]
        self._dropped.append(number)
