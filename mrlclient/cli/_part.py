"""A file that is written row by row, and that the next run goes on with where this one ends early."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mrlclient.errors import ConfigurationError

#: What is there is made safe after every chunk, unless that would take more than this share of the time.
_SHARE = 0.1
#: Settings that are told where they are others.
_SAID = ("model", "dimensions", "format", "skip")


@dataclass(frozen=True, slots=True)
class _Done:
    """How far it is.

    Attributes:
        texts: Rows that are there.
        size: Bytes that they and the head take.
        digest: Of the texts, so that other texts are not gone on with.
    """

    texts: int
    size: int
    digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=32))

    def after(self, texts: Iterable[str], size: int) -> Self:
        """With the rows of these texts as well."""
        digest, count = self.digest.copy(), self.texts
        for text in texts:
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
            count += 1
        return type(self)(count, size, digest)

    def record(self) -> bytes:
        """As the log has it."""
        return json.dumps([self.texts, self.size, self.digest.hexdigest()]).encode()


class Part:
    """The beginning of a file, beside its place: `NAME.part`; and `NAME.part.json`, a log that says what it is.

    The log has a line of settings, then one for each moment at which the rows up to there were safe on the disk. The
    last of them counts, however a run ends. Where no error leaves its `with`, the file goes to its place.

    Args:
        output: Its place.
        texts: What it is of. Those whose rows are there are passed by.
        settings: What decides the rows, but for the texts.
        head: What stands before so many rows; of one length, whatever their number.

    Attributes:
        path: Where it is.
        kept: Rows that the next run finds.

    Raises:
        ConfigurationError: If there is a part of something else, or another run is writing it.
        OSError: If it cannot be written.
    """

    def __init__(
        self, output: Path, texts: Iterator[str], settings: Mapping[str, object], head: Callable[[int], bytes]
    ) -> None:
        # Path.resolve would choke on a link to itself.
        self._target = Path(os.path.realpath(output)) if output.is_symlink() else output
        self.path = self._target.with_name(f"{self._target.name}.part")
        self._log_path = self.path.with_name(f"{self.path.name}.json")
        self._head = head
        self.kept, self._due = 0, 0.0
        self._done = _Done(0, len(head(0)))
        with ExitStack() as files:
            try:
                # Not buffered: what cannot be written now is not to be written later.
                self._log = files.enter_context(_open(self._log_path, 0))
            except OSError as error:
                # Said of the file that was asked for, not of the one beside it.
                raise OSError(error.errno, error.strerror, str(output)) from None
            if not _lock(self._log.fileno()):
                raise ConfigurationError(f"Another run is writing {output}. Wait for it, or give another --output.")
            try:
                self._rows = files.enter_context(_open(self.path))
                self._begin(texts, settings)
            except BaseException:
                if not os.fstat(self._log.fileno()).st_size:
                    with suppress(OSError):
                        self._log_path.unlink()
                raise
            self._files = files.pop_all()

    def write(self, texts: Sequence[str], rows: Iterable[bytes]) -> None:
        """Adds the rows of these texts; all of them count, or none."""
        self._rows.writelines(rows)
        # One assignment, for Ctrl-C may come anywhere.
        self._done = self._done.after(texts, self._rows.tell())
        if time.monotonic() >= self._due:
            self._save()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if error is None:
                self._finish()
            else:
                # A full disk is what went wrong, perhaps.
                with suppress(OSError):
                    self._save()
        finally:
            with suppress(OSError):
                self._files.close()
            if not self.kept:
                self.path.unlink(missing_ok=True)
                self._log_path.unlink(missing_ok=True)

    def _begin(self, texts: Iterator[str], settings: Mapping[str, object]) -> None:
        *lines, _ = self._log.read().split(b"\n")
        wanted = json.dumps(settings).encode()
        there = os.fstat(self._rows.fileno()).st_size
        if not there:
            # It is new, or what was there was removed, to begin again.
            self._log.seek(0)
            self._log.truncate()
            self._append(wanted + b"\n" + self._done.record())
            self._rows.write(self._head(0))
            self._rows.flush()
            return
        found = _read(lines)
        if found is None or found[1].size > there:
            raise self._refusal("is damaged, or no run left it")
        was, last = found
        if lines[0] != wanted:
            others = [f"{name} {was.get(name)}" for name in _SAID if was.get(name) != settings[name]]
            raise self._refusal(f"was made with {', '.join(others) or 'other options'}")
        self._done = self._done.after(islice(texts, last.texts), last.size)
        if self._done.record() != lines[-1]:
            raise self._refusal("was made of other texts")
        self.kept = last.texts
        self._rows.truncate(last.size)
        self._rows.seek(last.size)
        # The last line may have been cut short.
        end = sum(len(line) + 1 for line in lines)
        self._log.truncate(end)
        self._log.seek(end)

    def _save(self) -> None:
        if self._done.texts > self.kept:
            done, begun = self._done, time.monotonic()
            self._rows.flush()
            os.fsync(self._rows.fileno())
            self._append(done.record())
            self.kept = done.texts
            self._due = begun + (time.monotonic() - begun) / _SHARE

    def _append(self, line: bytes) -> None:
        end = self._log.tell()
        if self._log.write(line + b"\n") != len(line) + 1:
            self._log.truncate(end)
            self._log.seek(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _finish(self) -> None:
        self._save()
        self._rows.seek(0)
        self._rows.write(self._head(self._done.texts))
        self._rows.flush()
        os.fsync(self._rows.fileno())
        self._rows.close()
        if self._target.exists():
            self.path.chmod(stat.S_IMODE(self._target.stat().st_mode))
        self.path.replace(self._target)
        self.kept = 0

    def _refusal(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.path} {why}. Go on with the same texts and options, or remove it to begin again."
        )


def _read(lines: Sequence[bytes]) -> tuple[dict[str, Any], _Done] | None:
    """The settings of a log, and how far the run was; None where no run wrote it."""
    try:
        was, (texts, size, _) = json.loads(lines[0]), json.loads(lines[-1])
    except (ValueError, TypeError, LookupError):
        return None
    if not (isinstance(was, dict) and isinstance(texts, int) and isinstance(size, int)):
        return None
    return was, _Done(texts, size)


def _open(path: Path, buffering: int = -1) -> Any:
    """Opens a file to read and write, and makes it where it is not there. A link is not followed."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)

    return open(path, "r+b", buffering, opener=opener)


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _lock(handle: int) -> bool:
        """Whether nobody else has it. Where files cannot be locked, nobody has."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True
