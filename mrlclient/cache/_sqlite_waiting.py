"""Who waits for another writer of a cache file, and who does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import apsw

BUSY_SECONDS = 5.0
BUSY_MS = int(BUSY_SECONDS * 1000)


@contextmanager
def transaction(db: apsw.Connection, kind: Literal["IMMEDIATE", "EXCLUSIVE"] = "IMMEDIATE") -> Iterator[None]:
    """What is written in it is kept as a whole, or not at all.

    apsw's own keeps the interpreter's lock while it waits for another writer: nothing else of this process would run,
    be it an event loop, or that very writer. And a write that began as a read could not wait at all.
    """
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(apsw.Error):  # SQLite may have done so itself, as on a full disk
            db.execute("ROLLBACK")
        raise


@contextmanager
def unwaiting(db: apsw.Connection) -> Iterator[None]:
    """What another process is in the way of fails at once."""
    db.set_busy_timeout(0)
    try:
        yield
    finally:
        db.set_busy_timeout(BUSY_MS)
