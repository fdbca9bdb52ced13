"""Flat files of values, beside the file of their index: only ever appended to, and dropped whole.

Read with `pread`, not mapped: to read a mapped file that another process cut short kills the reader.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

#: A place is the number of a file and the offset in it.
OFFSET_BITS = 32
_OFFSETS = 2**OFFSET_BITS - 1
_MAX_OPEN = 128
_MAX_PIECES = 1024  # of one `pwritev`, at least what POSIX systems take
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
#: What opening a file fails with that is not there, or is a link or a folder. With anything else, such as too many open
#: files, it may well be there.
_NO_FILE = {errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO}
_AT_OFFSETS = hasattr(os, "preadv") and hasattr(os, "pwritev")


def place(number: int, offset: int) -> int:
    """Where something stands that has this offset in the file of this number."""
    return number << OFFSET_BITS | offset


class Segments:
    """The files beside a path, by number. Whoever uses it holds a lock.

    Args:
        path: The file of the index; theirs are named after it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: dict[int, int] = {}

    def path(self, number: int) -> Path:
        """The path of a file."""
        return self._path.with_name(f"{self._path.name}-vectors-{number}")

    def numbers(self) -> list[int]:
        """The numbers of the files that are there."""
        name = re.compile(re.escape(self._path.name) + r"-vectors-([0-9]{1,10})")
        found = [name.fullmatch(each.name) for each in self._path.parent.iterdir()]
        return sorted(int(match[1]) for match in found if match)

    def total(self) -> int:
        """What the files take."""
        size = 0
        for number in self.numbers():
            with suppress(FileNotFoundError):
                size += self.path(number).lstat().st_size
        return size

    def read(self, at: int, into: memoryview) -> bool:
        """Fills a buffer from a place; false where the file is not there, or not that long.

        Raises:
            OSError: If it cannot be read for another reason.
        """
        file = self._open.get(at >> OFFSET_BITS)
        if file is None:
            file = self._there(at >> OFFSET_BITS)
        if file is None:
            return False
        if _AT_OFFSETS:
            return os.preadv(file, (into,), at & _OFFSETS) == len(into)
        os.lseek(file, at & _OFFSETS, os.SEEK_SET)
        data = os.read(file, len(into))
        into[: len(data)] = data
        return len(data) == len(into)

    def value(self, at: object, size: object) -> bytes | None:
        """The bytes of a place, whatever an index says that may be damaged; None where they are not there."""
        if not isinstance(at, int) or not isinstance(size, int) or size <= 0:
            return None
        # Before the memory is taken.
        if not self.is_good(at >> OFFSET_BITS, (at & _OFFSETS) + size):
            return None
        value = bytearray(size)
        return bytes(value) if self.read(at, memoryview(value)) else None

    def is_good(self, number: int, size: int) -> bool:
        """Whether there is such a file, of that many bytes or more."""
        file = self._there(number)
        if file is not None and not os.fstat(file).st_nlink:
            # Deleted while it was open: nobody else would find what is written to it.
            self._forget(number)
            file = self._there(number)
        return file is not None and os.fstat(file).st_size >= size

    def create(self, number: int) -> None:
        """Makes an empty file, in the place of any that is there.

        Raises:
            OSError: If that cannot be.
        """
        self.drop(number)
        self._opened(number, os.O_CREAT | os.O_EXCL)

    def append(self, at: int, pieces: Sequence[memoryview | bytes]) -> None:
        """Writes from a place on, where nothing is that anybody knows of; all of it, or nothing that stays.

        Raises:
            OSError: If it cannot be written, as on a full disk.
        """
        file, offset = self._opened(at >> OFFSET_BITS), at & _OFFSETS
        try:
            for begin in range(0, len(pieces), _MAX_PIECES):
                offset += _write(file, pieces[begin : begin + _MAX_PIECES], offset)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, at & _OFFSETS)
            raise

    def drop(self, number: int) -> None:
        """Deletes a file. Cut short first: others may hold it open, and would hold its space."""
        with suppress(OSError):
            os.ftruncate(self._opened(number), 0)
        self._forget(number)
        with suppress(OSError):
            self.path(number).unlink()

    def close(self) -> None:
        """Closes all files; they are opened again when they are wanted."""
        for number in list(self._open):
            self._forget(number)

    def __del__(self) -> None:
        self.close()

    def _there(self, number: int) -> int | None:
        try:
            return self._opened(number)
        except OSError as error:
            if error.errno in _NO_FILE:
                return None
            raise

    def _opened(self, number: int, more: int = 0) -> int:
        file = self._open.get(number)
        if file is not None:
            return file
        file = os.open(self.path(number), _FLAGS | more, 0o600)
        try:
            mode = os.fstat(file).st_mode
            if not stat.S_ISREG(mode):
                raise OSError(errno.ENOENT, "not a file")
            if os.name == "posix" and stat.S_IMODE(mode) != 0o600:
                os.fchmod(file, 0o600)
        except OSError:
            os.close(file)
            raise
        if len(self._open) >= _MAX_OPEN:
            self._forget(next(iter(self._open)))
        self._open[number] = file
        return file

    def _forget(self, number: int) -> None:
        file = self._open.pop(number, None)
        if file is not None:
            with suppress(OSError):
                os.close(file)


def _write(file: int, pieces: Sequence[memoryview | bytes], offset: int) -> int:
    """Writes all the pieces and returns their bytes."""
    size = sum(map(len, pieces))
    done = 0
    if _AT_OFFSETS:
        done = os.pwritev(file, pieces, offset)
    if done < size:
        # A file system may take less at once than it was given, and the first part of it before it is full.
        left = memoryview(b"".join(pieces))
        while done < size:
            if _AT_OFFSETS:
                done += os.pwrite(file, left[done:], offset + done)
            else:
                os.lseek(file, offset + done, os.SEEK_SET)
                done += os.write(file, left[done:])
    return size
