"""The file of an SQLite cache: made private, recognised, and refused where it is somebody else's."""

from __future__ import annotations

import os
import secrets
import stat
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

from mrlclient.errors import ConfigurationError

try:
    import apsw
except ImportError:
    from mrlclient.errors import missing_extra

    raise missing_extra("apsw, which the cache file needs,", "sqlite") from None

#: "MRLc": what makes an SQLite file one of ours.
_APPLICATION_ID = 0x4D524C63
_VERSION = 2
#: What it begins with, whether it has a log (2) or not (1), its pages, its format, whose it is.
_HEADER = struct.Struct(">16s 2x B 9x I 28x i 4x i")

#: Before this release, processes that write at once could corrupt a file in WAL mode (its "WAL-reset bug").
_OLDEST_SQLITE = (3, 51, 3)

#: Rows are small and their keys random: a large page would be written for the sake of one row.
_PAGE_BYTES = 4_096
#: Holds the index of some 200,000 vectors. What is not in it comes from the system's own cache.
_CACHE_KIB = 16_384
#: The log is written back to the file when it is this long: 16 MiB, or this part of what all files may take. Keys come
#: in any order, so most writes change most pages: the longer the log, the fewer are written back more than once.
_CHECKPOINT_PAGES = 4_096
_CHECKPOINT_PART = 32
#: The part of what all files may take that is left to the log.
LOG_PART = 16
_BUSY_SECONDS = 5.0
_BUSY_MS = int(_BUSY_SECONDS * 1000)

# The vectors themselves stand in flat files (`_sqlite_log`): a row says where, under the number of its key. The number
# is the row's own, so a look-up searches one tree of small rows. `used` says when the value came to its place.
_SCHEMA = """
CREATE TABLE meta (
    secret BLOB NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0,
    misses INTEGER NOT NULL DEFAULT 0,
    tokens REAL NOT NULL DEFAULT 0,
    usd REAL NOT NULL DEFAULT 0
);
CREATE TABLE segments (
    number INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    dead INTEGER NOT NULL
);
INSERT INTO segments VALUES (1, 0, 0);
CREATE TABLE vectors (
    key INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    size INTEGER NOT NULL,
    width INTEGER NOT NULL,
    created REAL NOT NULL,
    used REAL NOT NULL
);
CREATE INDEX vectors_at ON vectors (at);
"""

# Closing any descriptor of a file drops all locks that this process has on it (POSIX), SQLite's own too. The only
# descriptor here that is not SQLite's is of a file just made, which nobody may have opened before it is closed.
opening = threading.Lock()


def check_sqlite() -> None:
    """Refuses an SQLite that can corrupt a file.

    Raises:
        ConfigurationError: If it is too old.
    """
    version = apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")[:3]) < _OLDEST_SQLITE:
        raise ConfigurationError(
            f"apsw carries SQLite {version}, which can corrupt a file that several processes write. "
            "Install a newer one with: pip install --upgrade apsw"
        )


def full_path(path: str | os.PathLike[str]) -> Path:
    """The path, absolute; the folders in it may be links, the file itself may not."""
    given = Path(path).expanduser()
    return Path(os.path.realpath(given.parent)) / given.name


def open_file(path: Path, max_bytes: int | None = None) -> tuple[apsw.Connection, bytes]:
    """Opens a cache file, making it where there is none.

    Args:
        path: The file.
        max_bytes: What all files may take; the log then takes a small part of it.

    Returns:
        A connection, and the file's secret.

    Raises:
        ConfigurationError: If there is something else at that path, or it cannot be used. It is left as it is.
    """
    with opening:
        try:
            new = _make_private(path)
            if not new:
                _recognise(path)
            return _connect(path, max_bytes)
        except (OSError, apsw.Error) as error:
            raise ConfigurationError(f"The cache file {path} cannot be used: {_reason(error)}") from error


def beside(path: Path, suffix: str) -> Path:
    """The path of SQLite's own files beside a file."""
    return path.with_name(path.name + suffix)


def index_bytes(db: apsw.Connection) -> int:
    """Bytes of the pages that hold something, in this transaction."""
    size: int = (db.pragma("page_count") - db.pragma("freelist_count")) * db.pragma("page_size")
    return size


def log_bytes(path: Path) -> int:
    """Bytes of the log and its index."""
    size = 0
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            size += beside(path, suffix).stat().st_size
    return size


def shorten_log(db: apsw.Connection, path: Path, max_bytes: int) -> None:
    """Cuts the log if it is longer than it should be, unless another process is in the way: then the next one does."""
    if log_bytes(path) > max_bytes // LOG_PART:
        db.set_busy_timeout(0)
        with suppress(apsw.Error):  # what was to be written is written
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        db.set_busy_timeout(_BUSY_MS)


def give_back(db: apsw.Connection) -> None:
    """Returns free pages to the file system, as far as no other process is reading."""
    db.execute("PRAGMA incremental_vacuum").fetchall()
    with suppress(apsw.BusyError):
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _make_private(path: Path) -> bool:
    """Makes an empty file, and its folders, that nobody else may read. False where something is there already."""
    for folder in reversed(path.parents):
        # Of a root, which is always there, macOS says that it is a folder, and Windows that it may not be made.
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700, exist_ok=True)
    try:
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except FileExistsError:
        return False
    try:
        # The umask may have taken more away; SQLite gives the files beside it the same mode.
        path.chmod(0o600)
    finally:
        os.close(made)
    return True


def _recognise(path: Path) -> None:
    """Refuses what is not a cache file of this version, without changing anything, then makes it private."""
    for each in (path, *(beside(path, suffix) for suffix in ("-wal", "-shm", "-journal"))):
        with suppress(FileNotFoundError):
            mode = each.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise ConfigurationError(f"{each} is a symbolic link. Give the path of the cache file itself.")
            if not stat.S_ISREG(mode):
                raise ConfigurationError(f"{each} is not a file. Give the path of a cache file, or of none yet.")
    if path.stat().st_size:
        application, version = _identity(path)
        if application != _APPLICATION_ID:
            raise ConfigurationError(
                f"{path} is not a cache of mrlclient. Nothing was changed. Give another path for the cache."
            )
        if version != _VERSION:
            raise ConfigurationError(
                f"{path} was made by another version of mrlclient (format {version}; this one knows {_VERSION}). "
                "Nothing was changed. Upgrade mrlclient, or give another path for the cache."
            )
    for each in (path, beside(path, "-wal"), beside(path, "-shm")):
        with suppress(FileNotFoundError):
            if os.name == "posix" and stat.S_IMODE(each.lstat().st_mode) & 0o077:
                each.chmod(0o600)


def _identity(path: Path) -> tuple[int, int]:
    """Whose file it is, and its format, from its header (https://sqlite.org/fileformat.html#the_database_header)."""
    # Read through SQLite's own file layer, for the sake of the locks, but not as a database: that could change it.
    file = apsw.VFSFile("", str(path), [apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB, 0])
    try:
        header = file.xRead(min(_HEADER.size, file.xFileSize()), 0).ljust(_HEADER.size, b"\0")
    finally:
        file.xClose()
    magic, log, pages, version, application = _HEADER.unpack(header)
    if magic != b"SQLite format 3\0":
        return 0, 0
    if (log, pages, version, application) == (1, 1, 0, 0):
        # A single page without a log has no table: a process is making a cache of it, or was killed over that.
        return _APPLICATION_ID, _VERSION
    return application, version


def _connect(path: Path, max_bytes: int | None) -> tuple[apsw.Connection, bytes]:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW)
    try:
        if db.readonly("main"):
            raise ConfigurationError(f"The cache file {path} may not be written. Give a path that may.")
        db.set_busy_timeout(_BUSY_MS)
        # A mapped file that another process cuts short would kill this one.
        db.pragma("mmap_size", 0)
        db.pragma("cache_size", -_CACHE_KIB)
        if db.pragma("application_id") != _APPLICATION_ID:
            _create(db, path)
        _use_log(db, path)
        # The log is not flushed to the disk at each commit: a killed process loses nothing, a power failure perhaps the
        # last commits, never the file. What is lost is embedded again.
        db.pragma("synchronous", "NORMAL")
        pages = _CHECKPOINT_PAGES
        if max_bytes is not None:
            pages = min(pages, max_bytes // _CHECKPOINT_PART // _PAGE_BYTES)
        db.pragma("wal_autocheckpoint", pages)
        db.pragma("journal_size_limit", pages * _PAGE_BYTES)
        # A write that began as a read could not wait for another writer.
        db.transaction_mode = "IMMEDIATE"
        secret = db.execute("SELECT secret FROM meta").get
        if not isinstance(secret, bytes) or len(secret) != 32:
            raise apsw.CorruptError("its secret is damaged")
        return db, secret
    except BaseException:
        db.close()
        raise


def _create(db: apsw.Connection, path: Path) -> None:
    """Makes the tables and the secret, all at once or not at all, whoever else tries at the same time."""
    db.pragma("page_size", _PAGE_BYTES)
    db.pragma("auto_vacuum", "INCREMENTAL")
    db.transaction_mode = "EXCLUSIVE"
    with db:
        if db.pragma("application_id") == _APPLICATION_ID:
            return  # another process was first
        if db.execute("SELECT count(*) FROM sqlite_schema").get:
            raise ConfigurationError(f"{path} is not a cache of mrlclient. Give another path for the cache.")
        db.execute(_SCHEMA)
        db.execute("INSERT INTO meta (secret) VALUES (?)", (secrets.token_bytes(32),))
        db.pragma("user_version", _VERSION)
        db.pragma("application_id", _APPLICATION_ID)


def _use_log(db: apsw.Connection, path: Path) -> None:
    """Write-ahead logging: readers and a writer do not wait for each other."""
    # SQLite does not wait by itself where several processes change a new file's mode at once.
    give_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            mode = db.pragma("journal_mode", "WAL")
            break
        except apsw.BusyError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise ConfigurationError(f"{path} is on a file system that SQLite cannot share. Give a path on a local disk.")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror}. Give a path that may be written."
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return f"it is damaged ({error}). Move it away or delete it; a new one is made."
    if isinstance(error, (apsw.CantOpenError, apsw.PermissionsError, apsw.ReadOnlyError)):
        return f"{error}. Give a path that may be written."
    return f"{error}."
