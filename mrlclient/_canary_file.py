"""The file of a canary: read whole, written whole, private, and refused where it is somebody else's."""

from __future__ import annotations

import base64
import errno
import json
import math
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mrlclient._paths import make_folders
from mrlclient.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FORMAT = "mrlclient canary"
_VERSION = 1
#: A model takes 64 KiB at 1536 numbers. What is larger than this was not written here.
_LARGEST = 1 << 26
#: The last second of the year 9999.
_END_OF_TIME = 253_402_300_799
#: How far a stored row's length may be from 1.
_UNIT = 1e-3
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
#: So that opening a pipe does not wait for its other end.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
#: Seconds to wait where Windows refuses what somebody else is in the way of, who is so for a moment.
_PATIENCE = 5.0 if sys.platform == "win32" else 0.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one model.

    Attributes:
        model: Its address.
        vectors: (n, d) float32 unit rows, of the fixed texts in their order.
        recorded: When they were recorded, in seconds since 1970.
        checked: When they were last seen unchanged.
        drifted: The worst cosine of the check that failed; None where none has.
    """

    model: str
    vectors: NDArray[np.float32]
    recorded: float
    checked: float
    drifted: float | None = None


def is_time(value: object) -> bool:
    """Whether a value is a time that a calendar has."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _END_OF_TIME


def signature(path: Path) -> object:
    """What changes whenever the file is written, because every write makes a new file; None where there is none.

    Raises:
        ConfigurationError: If it cannot be told.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error
    return found.st_ino, found.st_mtime_ns, found.st_size


def read(path: Path, texts: int) -> dict[tuple[str, ...], Entry]:
    """What the file holds of so many texts; nothing where there is no file.

    Raises:
        ConfigurationError: If it cannot be read, or is no canary's.
    """
    try:
        handle = _patiently(partial(os.open, path, os.O_RDONLY | _NO_LINK | _NO_WAIT))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unusable(path, error) from error
    content = b""
    try:
        found = os.fstat(handle)
        if stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST:
            with os.fdopen(handle, "rb", closefd=False) as file:
                content = file.read()
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        os.close(handle)
    entries = _parse(content, texts)
    if entries is None:
        raise _foreign(path)
    return entries


def write(path: Path, entries: Mapping[tuple[str, ...], Entry]) -> None:
    """Puts a new file in the place of the old one, in one step. Only while the lock is held.

    Raises:
        ConfigurationError: If it cannot be written. The old one is left as it is.
    """
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "entries": [_as_json(identity, entry) for identity, entry in entries.items()],
    }
    new = path.with_name(path.name + ".new")
    try:
        # One that a killed process left.
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(handle)
            _patiently(partial(new.replace, path))
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise
    except OSError as error:
        raise _unusable(path, error) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds off every other thread and process that would write the file; makes its folders where they are missing.

    Raises:
        ConfigurationError: If the lock, a file beside it, cannot be had.
    """
    try:
        make_folders(path)
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | _NO_LINK, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        try:
            _lock(handle)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            yield
        finally:
            _unlock(handle)
    finally:
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        _patiently(partial(msvcrt.locking, handle, msvcrt.LK_NBLCK, 1))

    def _unlock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)

    def _unlock(handle: int) -> None:
        # Closing is not enough where a process was forked meanwhile: it has the descriptor too.
        fcntl.flock(handle, fcntl.LOCK_UN)


def _patiently(act: Callable[[], T]) -> T:
    """On Windows a file cannot be replaced while it is read, nor read while it is replaced."""
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            return act()
        except PermissionError:
            if time.monotonic() >= give_up:
                raise
        time.sleep(0.01)


def _as_json(identity: tuple[str, ...], entry: Entry) -> dict[str, Any]:
    return {
        "identity": identity,
        "model": entry.model,
        "width": entry.vectors.shape[1],
        "vectors": base64.b64encode(entry.vectors.astype("<f4").tobytes()).decode(),
        "recorded": entry.recorded,
        "checked": entry.checked,
        "drifted": entry.drifted,
    }


def _parse(content: bytes, texts: int) -> dict[tuple[str, ...], Entry] | None:
    """The entries; None where a byte of it was not written here."""
    try:
        data = json.loads(content)
        if (data["format"], data["version"]) != (_FORMAT, _VERSION):
            return None
        return dict(_entry(row, texts) for row in data["entries"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _entry(row: dict[str, Any], texts: int) -> tuple[tuple[str, ...], Entry]:
    identity, model, drifted = tuple(row["identity"]), row["model"], row["drifted"]
    raw = base64.b64decode(row["vectors"], validate=True)
    vectors = np.frombuffer(raw, dtype="<f4").astype(np.float32).reshape(texts, -1)
    with np.errstate(all="ignore"):
        unit = bool((np.abs(np.vecdot(vectors, vectors) - 1.0) < _UNIT).all())
    times = (row["recorded"], row["checked"])
    named = all(isinstance(part, str) for part in (*identity, model))
    judged = drifted is None or (isinstance(drifted, float) and math.isfinite(drifted))
    if not (unit and vectors.shape[1] == row["width"] and named and judged and all(map(is_time, times))):
        raise ValueError
    return identity, Entry(model, vectors, *times, drifted)


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    reason = "it is a link" if error.errno == errno.ELOOP else error.strerror or type(error).__name__
    return ConfigurationError(f"The canary's file {path} cannot be used: {reason}.")


def _foreign(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is not a canary's file, or it is damaged, or from another version. It is left as it is: give another "
        "path, or move it away. Without it, what the models give next is taken for what they always gave."
    )
