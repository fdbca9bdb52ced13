"""A cache in files, for any number of processes on one machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient._paths import full_path
from mrlclient.cache import _sqlite_file, _sqlite_fork
from mrlclient.cache._segments import Segments
from mrlclient.cache.base import Cache, CacheStats, Entry, Found, check_options
from mrlclient.errors import ConfigurationError

try:
    import apsw

    from mrlclient.cache import codec
    from mrlclient.cache._sqlite_log import ValueLog
    from mrlclient.cache._sqlite_reader import Reader, Request, Row
    from mrlclient.cache._sqlite_waiting import unwaiting
except ImportError:
    from mrlclient.errors import missing_extra

    raise missing_extra("apsw or xxhash, which the cache file needs,", "sqlite") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_BYTES = 2**20
#: A row that was used within this many seconds is not marked as used again: a read should not cost a write.
_COARSE = 3600.0
_MAX_TOUCHED = 1024
#: Rows looked at with one lock.
_CHUNK = 64
#: Bytes kept in one transaction, about, so that other processes need not wait long, and a bound is not overrun by much.
_WRITE_BYTES = 2**23
#: How often it is seen to, at most, whether the file is still in its place: that takes a tenth of a hit.
_LOOK_SECONDS = 0.1

_COUNT = "UPDATE meta SET hits = hits + ?, misses = misses + ?, tokens = tokens + ?, usd = usd + ?"


class SQLiteCache(Cache):
    """Vectors in files that only their owner can read. Threads and processes may share them.

    The index is an SQLite file at the path; the vectors are beside it, in `PATH-vectors-1` and so on. A killed process
    loses nothing that `set_many` has stored; a power failure may lose the last of it. Around a fork everything is
    closed, and opened again on both sides. A closed cache is opened again when it is used, and so is a pickled one.

    Args:
        path: The file. Missing files and folders are made for the owner alone (0600 and 0700), and files that others
            can read are made private again. Not on a network file system.
        max_bytes: The size limit of all files, at least 1 MiB; the least recently used are dropped first, an eighth of
            the limit at a time. By default without limit.
        ttl: Seconds that an entry is kept; by default without limit.
        stored_type: `"float16"` takes half the space and keeps 11 bits of each number.

    Raises:
        ConfigurationError: If an argument is wrong, or there is something else at that path, which is left untouched.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        ttl: float | None = None,
        stored_type: codec.StoredType = "float32",
    ) -> None:
        check_options(ttl=ttl, max_bytes=max_bytes, least_bytes=_LEAST_BYTES, stored_type=stored_type)
        _sqlite_file.check_sqlite()
        self._path = full_path(path)
        if self._path.name == ":memory:":
            raise ConfigurationError("':memory:' is no file of a cache. For one in memory use 'memory:'.")
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._type: codec.StoredType = stored_type
        self._write_bytes = _WRITE_BYTES if max_bytes is None else min(_WRITE_BYTES, max_bytes // 8)
        self._lock = threading.Lock()
        self._db: apsw.Connection | None = None
        self._files = Segments(self._path)
        self._log: ValueLog
        self._reader: Reader
        self._pid = 0
        self._file: tuple[int, int] | None = None
        self._look_again = 0.0
        self._secret = b""
        self._touched: set[int] = set()
        self._damaged: set[tuple[int, Any]] = set()
        self._counts = [0, 0, 0.0, 0.0]  # hits, misses, tokens, usd: not in the file yet
        _sqlite_fork.close_at_fork(self)
        with self._lock:
            self._open()

    def __repr__(self) -> str:
        return f"SQLiteCache({str(self._path)!r})"

    def __reduce__(self) -> tuple[Callable[[], SQLiteCache], tuple[()]]:
        options: dict[str, Any] = {"max_bytes": self._max_bytes, "ttl": self._ttl, "stored_type": self._type}
        return partial(type(self), self._path, **options), ()

    @property
    def secret(self) -> bytes:
        with self._lock:
            self._open(often=True)
            return self._secret

    def get_many(self, keys: Sequence[bytes], width: int, out: NDArray[np.float32]) -> Found:
        if not keys:
            return Found(np.zeros(0, dtype=np.bool_))
        request = Request(keys, out[:, :width], self._oldest(), self._stale())
        with self._lock:
            db = self._open(often=True)
            self._reader.find(request)
            self._touched.update(request.used)
            self._damaged |= request.damaged
            hits = int(np.count_nonzero(request.mask))
            for position, count in enumerate((hits, len(keys) - hits, request.tokens, request.usd)):
                self._counts[position] += count
            if self._damaged or len(self._touched) >= _MAX_TOUCHED:
                # What was found stays found if this fails, and nobody waits for it: that is done with the next write.
                with suppress(apsw.Error, OSError), unwaiting(db):
                    if self._is_in_place():
                        self._write()
                # A hint, which is given again at the next use: not kept for as long as a disk is full.
                self._touched.clear()
        return Found(request.mask, request.tokens, request.usd)

    def set_many(self, entries: Sequence[Entry]) -> None:
        best: dict[bytes, Entry] = {}
        now, oldest = time.time(), self._oldest()
        for entry in entries:
            held = best.get(entry.key)
            if held is None or len(held.vector) < len(entry.vector) or 0 < held.created < oldest:
                best[entry.key] = entry
        rows = list(best.values())
        while rows:
            size = count = 0
            while count < len(rows) and size < self._write_bytes:
                size += codec.encoded_size(len(rows[count].vector), self._type)
                count += 1
            part, rows = rows[:count], rows[count:]
            with self._lock:
                self._open()
                self._write(lambda part=part: self._log.add(part, self._type, now, oldest))  # type: ignore[misc]

    def items(self) -> Iterator[Entry]:
        oldest = self._oldest()
        for row in self._rows():
            if row.entry is not None and row.entry.created >= oldest:
                yield row.entry

    def stats(self) -> CacheStats:
        with self._lock:
            db = self._open()
            entries = self._count(db)
            counts = db.execute("SELECT hits, misses, tokens, usd FROM meta").get
            hits, misses, tokens, usd = (held + new for held, new in zip(counts, self._counts, strict=True))
            size = self._path.stat().st_size + _sqlite_file.log_bytes(self._path) + self._files.total()
        return CacheStats(entries, size, hits, misses, tokens, usd)

    def prune(self) -> int:
        with self._lock:
            db = self._open()
            with self._log.writing():
                before = self._count(db)
                self._log.expire(self._oldest())
                self._log.evict()
                self._log.compact_all()
                dropped = before - self._count(db)
            _sqlite_file.give_back(db)
        return dropped

    def clear(self) -> int:
        with self._lock:
            db = self._open()
            with self._log.writing():
                dropped = self._count(db)
                self._log.clear()
            _sqlite_file.give_back(db)
        return dropped

    def verify(self) -> tuple[int, int]:
        with self._lock:
            db = self._open()
            if db.pragma("integrity_check", 1) != "ok":
                db.execute("REINDEX")
        good, damaged = 0, list[tuple[int, Any]]()
        for row in self._rows():
            if row.entry is None:
                damaged.append((row.key, row.at))
            else:
                good += 1
        with self._lock:
            self._open()
            damaged += [(row.key, row.at) for row in self._reader.nowhere()]
            with self._log.writing():
                # What another process moved or dropped under way was no damage, and is not counted.
                dropped = self._log.forget(damaged)
                self._log.recount()
        return good, dropped

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def _open(self, *, often: bool = False) -> apsw.Connection:
        """The connection of this process. Held lock needed, as for all that follows."""
        if self._db is not None and self._pid != os.getpid():
            # Forked by something that does not tell Python. To close it here would harm the other process.
            _sqlite_fork.inherited.append(self._db)
            self._db = None
        if self._db is not None and not (often and time.monotonic() < self._look_again):
            self._look_again = time.monotonic() + _LOOK_SECONDS
            if not self._is_in_place():
                # Deleted or replaced: nobody would find what is written to it, and its files are another's now.
                self._let_go()
        if self._db is None:
            self._db, self._secret = _sqlite_file.open_file(self._path, self._max_bytes)
            self._file = _sqlite_file.identity_of(self._path)
            self._log = ValueLog(self._db, self._files, self._max_bytes)
            self._reader = Reader(self._db, self._files)
            self._pid = os.getpid()
        return self._db

    def _is_in_place(self) -> bool:
        return self._file == _sqlite_file.identity_of(self._path)

    def _disconnect(self) -> None:
        if self._db is None or self._pid != os.getpid():
            self._db = None
            return
        # What is pending is counts, and what was used: not worth an error.
        with suppress(apsw.Error, OSError):
            if self._is_in_place() and (any(self._counts) or self._touched or self._damaged):
                self._write()
        self._let_go()

    def _let_go(self) -> None:
        """Closes everything, and forgets what was to be written."""
        db, self._db = self._db, None
        self._files.close()
        if db is not None:
            db.close()
        self._pending_done()

    def _pending_done(self) -> None:
        self._damaged.clear()
        self._touched.clear()
        self._counts[:] = (0, 0, 0.0, 0.0)

    def _write(self, more: Callable[[], None] | None = None) -> None:
        """One transaction: what is pending, then what is new, then what has to go."""
        log = self._log
        with log.writing() as db:
            if self._damaged:
                log.forget(self._damaged)
            if self._touched:
                log.use(np.array(sorted(self._touched), dtype=np.int64), time.time(), self._stale())
            db.execute(_COUNT, tuple(self._counts))
            if more is not None:
                more()
            log.evict()
            log.compact()
        self._pending_done()
        if self._max_bytes is not None:
            _sqlite_file.shorten_log(db, self._path, self._max_bytes)

    def _rows(self) -> Iterator[Row]:
        """What is held, a few rows at a time so that nobody has to wait."""
        last = -1
        while True:
            with self._lock:
                self._open()
                rows = self._reader.rows(last, _CHUNK)
            if not rows:
                return
            yield from rows
            if rows[-1].at <= last:
                raise apsw.CorruptError("the rows of the cache file are out of order")
            last = rows[-1].at

    @staticmethod
    def _count(db: apsw.Connection) -> int:
        count: int = db.execute("SELECT count(*) FROM vectors").get
        return count

    def _oldest(self) -> float:
        return 0.0 if self._ttl is None else time.time() - self._ttl

    def _stale(self) -> float:
        """When a row must have been used last to be marked as used again; never, where nothing is ever dropped."""
        return 0.0 if self._max_bytes is None else time.time() - _COARSE
