"""A cache in a file, for any number of processes on one machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient.cache import _sqlite_file, _sqlite_fork
from mrlclient.cache.base import Cache, CacheStats, CorruptEntryError, Entry, Found
from mrlclient.errors import ConfigurationError

try:
    import apsw

    from mrlclient.cache import codec
except ImportError:
    from mrlclient.errors import missing_extra

    raise missing_extra("apsw or xxhash, which the cache file needs,", "sqlite") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_BYTES = 2**20
#: What is left of `max_bytes` after something had to go.
_KEEP = 0.9
#: A row that was used within this many seconds is not marked as used again: a read should not cost a write.
_COARSE = 3600.0
_MAX_TOUCHED = 4096
#: Rows looked at with one lock.
_CHUNK = 64

# The index says where a key's row is, the row says whose it is: `v.key` comes from the row, so a damaged index cannot
# hand out another text's vector. Taking all places from the index first also reads the rows in their order.
_FIND = """
SELECT v.key, v.id, v.used < ?, substr(v.value, 1, ?) FROM vectors AS v WHERE v.id IN (
    SELECT i.id FROM carray(?) AS wanted CROSS JOIN vectors AS i ON i.key = wanted.value
) AND v.width >= ?
"""
_NEXT_ID = "(SELECT max(id) + 1 FROM vectors)"
_KEEP_WIDER = f"""
INSERT INTO vectors (key, width, created, used, value) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET id = {_NEXT_ID},
    width = excluded.width, created = excluded.created, used = excluded.used, value = excluded.value
WHERE excluded.width > width OR created < ?
"""  # noqa: S608
_TOUCH = f"UPDATE vectors SET id = {_NEXT_ID}, used = ? WHERE id = ? AND used < ?"  # noqa: S608
_COUNT = "UPDATE meta SET hits = hits + ?, misses = misses + ?, tokens = tokens + ?, usd = usd + ?"


class SQLiteCache(Cache):
    """Vectors in a file that only its owner may read; threads and processes may share it.

    A killed process loses nothing that `set_many` had returned from; a power failure may lose the last of it. Across a
    fork the file is closed, and opened again on both sides. It is opened again, too, when it is used after `close`.

    Args:
        path: The file. It and its folders are made where they are missing, for the owner alone (0600 and 0700), and a
            cache file that others may read is made private again. Not on a network's file system.
        max_bytes: Bytes that the file may take, 1 MiB or more; the least recently used go first. By default any number.
            Beside it there is a log of about 16 MiB while it is written.
        ttl: Seconds that an entry is good for; by default for ever.
        stored_type: `"float16"` takes half the space and keeps 11 bits of each number.

    Raises:
        ConfigurationError: If an argument is wrong, or something else is at that path: it is not touched.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        ttl: float | None = None,
        stored_type: codec.StoredType = "float32",
    ) -> None:
        if ttl is not None and not ttl > 0:
            raise ConfigurationError("ttl of a cache must be positive.")
        if max_bytes is not None and max_bytes < _LEAST_BYTES:
            raise ConfigurationError(f"max_bytes of a cache file must be {_LEAST_BYTES} or more.")
        if stored_type not in ("float32", "float16"):
            raise ConfigurationError("stored_type of a cache must be 'float32' or 'float16'.")
        _sqlite_file.check_sqlite()
        self._path = _sqlite_file.full_path(path)
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._type: codec.StoredType = stored_type
        self._lock = threading.Lock()
        self._db: apsw.Connection | None = None
        self._pid = 0
        self._secret = b""
        self._touched: set[int] = set()
        self._damaged: list[tuple[int, bytes]] = []
        self._counts = [0, 0, 0.0, 0.0]  # hits, misses, tokens, usd: not in the file yet
        _sqlite_fork.close_at_fork(self)
        with self._lock:
            self._open()

    def __repr__(self) -> str:
        return f"SQLiteCache({str(self._path)!r})"

    @property
    def secret(self) -> bytes:
        return self._secret

    def get_many(self, keys: Sequence[bytes], width: int, out: NDArray[np.float32]) -> Found:
        mask = np.zeros(len(keys), dtype=np.bool_)
        if not keys:
            return Found(mask)
        at = {key: i for i, key in enumerate(keys)}
        oldest = self._oldest()
        tokens = usd = 0.0
        hits = 0
        with self._lock:
            db = self._open()
            bindings = (self._stale(), codec.prefix_size(width), apsw.carray(tuple(keys)), width)
            for key, number, stale, value in db.execute(_FIND, bindings):
                i = at.get(key)
                if i is None:
                    continue  # the index is damaged; see `verify`
                try:
                    read = codec.decode_into(_checked(value), out[i], oldest)
                except CorruptEntryError:
                    self._damaged.append((number, key))
                    continue
                if read is None:
                    continue
                mask[i] = True
                hits += 1
                tokens += read[0]
                usd += read[1]
                if stale:
                    self._touched.add(number)
            for position, count in enumerate((hits, len(keys) - hits, tokens, usd)):
                self._counts[position] += count
            if self._damaged or len(self._touched) >= _MAX_TOUCHED:
                # What was found stays found if this fails; then it is done with the next write.
                with suppress(apsw.Error):
                    self._write(db, [])
        return Found(mask, tokens, usd)

    def set_many(self, entries: Sequence[Entry]) -> None:
        now, oldest = time.time(), self._oldest()
        rows = [
            (entry.key, len(entry.vector), entry.created or now, now, codec.encode(entry, self._type), oldest)
            for entry in entries
        ]
        with self._lock:
            self._write(self._open(), rows)

    def items(self) -> Iterator[Entry]:
        for _, key, value in self._rows():
            with suppress(CorruptEntryError):
                yield codec.decode(_checked(key), _checked(value))

    def stats(self) -> CacheStats:
        with self._lock:
            db = self._open()
            entries = db.execute("SELECT count(*) FROM vectors").get
            counts = db.execute("SELECT hits, misses, tokens, usd FROM meta").get
            hits, misses, tokens, usd = (held + new for held, new in zip(counts, self._counts, strict=True))
            size = self._path.stat().st_size
            with suppress(FileNotFoundError):
                size += _sqlite_file.beside(self._path, "-wal").stat().st_size
        return CacheStats(entries, size, hits, misses, tokens, usd)

    def prune(self) -> int:
        with self._lock:
            db = self._open()
            before = db.total_changes()
            with db:
                db.execute("DELETE FROM vectors WHERE created < ?", (self._oldest(),))
                self._evict(db)
            dropped = db.total_changes() - before
            _sqlite_file.give_back(db)
        return dropped

    def clear(self) -> int:
        with self._lock:
            db = self._open()
            before = db.total_changes()
            db.execute("DELETE FROM vectors")
            dropped = db.total_changes() - before
            _sqlite_file.give_back(db)
        return dropped

    def verify(self) -> tuple[int, int]:
        with self._lock:
            db = self._open()
            if db.pragma("integrity_check", 1) != "ok":
                db.execute("REINDEX")
        good, damaged = 0, []
        for number, key, value in self._rows():
            try:
                codec.decode(_checked(key), _checked(value))
                good += 1
            except CorruptEntryError:
                damaged.append((number, key))
        with self._lock:
            self._damaged += damaged
            self._write(self._open(), [])
        return good, len(damaged)

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def _open(self) -> apsw.Connection:
        """The connection of this process. Held lock needed, as for all that follows."""
        if self._db is not None and self._pid != os.getpid():
            # Forked by something that does not tell Python. To close it here would harm the other process.
            _sqlite_fork.inherited.append(self._db)
            self._db = None
        if self._db is None:
            self._db, self._secret = _sqlite_file.open_file(self._path)
            self._pid = os.getpid()
        return self._db

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is None or self._pid != os.getpid():
            return
        # What is pending is counts, and what was used: not worth an error.
        with suppress(apsw.Error):
            if any(self._counts) or self._touched or self._damaged:
                self._write(db, [])
        db.close()

    def _write(self, db: apsw.Connection, rows: Iterable[tuple[bytes, int, float, float, bytes, float]]) -> None:
        """One transaction: what is pending, then the rows, then what has to go."""
        with db:
            if self._damaged:
                db.executemany("DELETE FROM vectors WHERE id = ? AND key IS ?", self._damaged)
            if self._touched:
                now, stale = time.time(), self._stale()
                db.executemany(_TOUCH, [(now, number, stale) for number in sorted(self._touched)])
            db.execute(_COUNT, tuple(self._counts))
            db.executemany(_KEEP_WIDER, rows)
            self._evict(db)
        self._damaged.clear()
        self._touched.clear()
        self._counts[:] = (0, 0, 0.0, 0.0)

    def _evict(self, db: apsw.Connection) -> None:
        """Drops the least recently used until the file's used pages are few enough."""
        if self._max_bytes is None or _sqlite_file.used_bytes(db) <= self._max_bytes:
            return
        while (excess := _sqlite_file.used_bytes(db) - _KEEP * self._max_bytes) > 0:
            last: int | None = None
            for number, size in db.execute("SELECT id, length(value) FROM vectors ORDER BY id"):
                last = number
                excess -= size
                if excess <= 0:
                    break
            if last is None:
                return
            db.execute("DELETE FROM vectors WHERE id <= ?", (last,))
            if not db.changes():
                raise apsw.CorruptError("the rows of the cache file are out of order")

    def _rows(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Number, key and value of each row, a few at a time so that nobody has to wait."""
        last = -1
        query = "SELECT id, key, value FROM vectors WHERE id > ? ORDER BY id LIMIT ?"
        while True:
            with self._lock:
                rows: list[Any] = self._open().execute(query, (last, _CHUNK)).fetchall()
            if not rows:
                return
            yield from rows
            if rows[-1][0] <= last:
                raise apsw.CorruptError("the rows of the cache file are out of order")
            last = rows[-1][0]

    def _oldest(self) -> float:
        return 0.0 if self._ttl is None else time.time() - self._ttl

    def _stale(self) -> float:
        """When a row must have been used last to be marked as used again; never, where nothing is ever dropped."""
        return 0.0 if self._max_bytes is None else time.time() - _COARSE


def _checked(value: object) -> bytes:
    """A column's value, which a damaged row may have of any type."""
    if not isinstance(value, bytes):
        raise CorruptEntryError
    return value
