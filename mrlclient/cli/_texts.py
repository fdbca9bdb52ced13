"""The texts to embed: arguments, a file, or what is piped in."""

from __future__ import annotations

import copy
import io
import json
import re
import shutil
import sys
import tempfile
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from mrlclient.errors import ConfigurationError, InputError, MRLError

_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile(rb"\r\n?|\n")

#: What a line is to its reader: its text, by the line, its index and the source.
_Reading = Callable[[str, int, str], str]


class _TwiceError(Exception):
    """An object has a key twice."""


class Texts:
    """Texts in their order, read as they are needed.

    What can be read twice is read once to check it, before anything is paid for.

    Args:
        open_lines: Opens what they are read from.
        source: What that is called; a file's text i is its line i + 1. None for arguments.
        reading: What a line is to its reader.
        once: Whether it can be read only once, as a pipe.

    Attributes:
        count: How many there are; None where they can be read only once.

    Raises:
        InputError: If a line is not a text; the message names the line and never quotes it.
        OSError: If the file cannot be read.
    """

    def __init__(
        self,
        open_lines: Callable[[], AbstractContextManager[Iterator[str]]],
        source: str | None,
        reading: _Reading,
        *,
        once: bool = False,
    ) -> None:
        self._open_lines, self._source, self._reading = open_lines, source, reading
        self.count = None if once else sum(1 for _ in self)

    def __iter__(self) -> Iterator[str]:
        index = -1
        with self._open_lines() as lines:
            for index, line in enumerate(lines):
                yield self._reading(line, index, self._source or "")
        if index < 0:
            raise InputError(f"{self._source} is empty: there is nothing to embed.")

    def placed(self, error: MRLError, skipped: int = 0) -> MRLError:
        """The error with the line that it is about, where the texts are lines.

        Args:
            error: It counts without what was skipped.
            skipped: Texts that were not embedded this time, before all others.
        """
        index = getattr(error, "index", None)
        if index is None or not (self._source or skipped):
            return error
        place = index + skipped
        name = f"Text {place}" if self._source is None else f"{self._source}, line {place + 1}"
        # The line is the text: counted once is enough.
        said, counted = str(error), f"Text {index}"
        apart = "" if said.startswith((f"{counted} ", f"{counted}: ")) else ": "
        made = copy.copy(error)
        made.args = (name + apart + said.removeprefix(counted if not apart else ""),)
        made.index = place  # type: ignore[attr-defined]
        return made


def read_texts(arguments: Sequence[str], file: Path | None, field_name: str | None, *, counted: bool = False) -> Texts:
    """The texts from the one place that has them.

    Args:
        arguments: Texts on the command line.
        file: A file; `-` is standard input.
        field_name: The field of a `.jsonl` object; None for `text`.
        counted: Whether it has to be known how many they are. What is piped in is then read to its end.

    Raises:
        ConfigurationError: If there is no such place, or two, or it is of a kind that cannot be read.
        InputError: If a line is not a text; the message names the line and never quotes it.
        OSError: If the file cannot be read.
    """
    if arguments and file:
        raise ConfigurationError("There are texts as arguments and a --file. Give the one or the other.")
    ending = file.suffix.lower() if file else ""
    if field_name is not None and ending != ".jsonl":
        raise ConfigurationError("--field names a field of a .jsonl file. Give such a --file, or leave --field out.")
    if arguments:
        return Texts(lambda: nullcontext(iter(arguments)), None, _argument)
    if file is None or str(file) == "-":
        return _piped(counted)
    if ending not in (".txt", ".jsonl"):
        raise ConfigurationError(
            f"--file reads .txt, a text a line, and .jsonl, an object a line. {file} is neither by its name."
        )
    reading = _line if ending == ".txt" else _field(field_name or "text")
    return Texts(lambda: _lines_of(file.open("rb"), str(file)), str(file), reading)


def _piped(counted: bool) -> Texts:
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigurationError("There is nothing to embed. Give texts as arguments, --file, or pipe them in.")
    source: BinaryIO = sys.stdin.buffer
    if counted and not source.seekable():
        # It lives as long as the texts are read, and is gone with the process.
        kept = tempfile.TemporaryFile()  # noqa: SIM115
        shutil.copyfileobj(source, kept)
        kept.seek(0)
        source = kept
    name = "standard input"
    if not source.seekable():
        return Texts(lambda: _lines_of(source, name, close=False), name, _line, once=True)
    # A shell may have read a part of it.
    begin = source.tell()

    def again() -> AbstractContextManager[Iterator[str]]:
        source.seek(begin)
        return _lines_of(source, name, close=False)

    return Texts(again, name, _line)


@contextmanager
def _lines_of(stream: BinaryIO, source: str, *, close: bool = True) -> Iterator[Iterator[str]]:
    # The three usual line ends only: str.splitlines would also cut a text at a form feed or a U+2028.
    decoded = io.TextIOWrapper(stream, encoding="utf-8-sig", newline=None)
    try:
        yield _decoded_lines(decoded, source)
    finally:
        if close:
            decoded.close()
        else:
            decoded.detach()


def _decoded_lines(decoded: io.TextIOWrapper, source: str) -> Iterator[str]:
    count, problem = 0, None
    try:
        for line in decoded:
            yield line.removesuffix("\n")
            count += 1
    except UnicodeDecodeError as error:
        ends = _LINE_END.findall(error.object, 0, error.start)
        problem = f", line {count + len(ends) + 1} is not UTF-8. Convert it first."
        if not count and error.object.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            problem = " is UTF-16. Convert it first: iconv -f UTF-16 -t UTF-8."
    if problem is not None:
        # Outside the except: the Unicode error holds the bytes, and would stay attached as the context.
        raise InputError(f"{source}{problem}")


def _argument(text: str, index: int, source: str) -> str:
    """An argument, whose bytes could be read as text."""
    if _SURROGATE.search(text):
        raise InputError(
            f"Text {index} has bytes that this locale cannot read. Set a UTF-8 locale, such as LANG=C.UTF-8."
        )
    return text


def _line(line: str, index: int, source: str) -> str:
    """A line that is a text."""
    problem = None
    if not line or line.isspace():
        problem = "is blank. Remove it, so that rows and lines agree"
    elif "\0" in line:
        problem = "holds a zero byte, as UTF-16 does and files that are no text. Convert it to UTF-8 first"
    if problem is not None:
        raise InputError(f"{source}, line {index + 1} {problem}.")
    return line


def _field(name: str) -> _Reading:
    """The text in a line of JSON, in the field of this name."""

    def reading(line: str, index: int, source: str) -> str:
        problem, text = _text_in(_line(line, index, source), name)
        if problem:
            raise InputError(f"{source}, line {index + 1} {problem}.")
        return text

    return reading


def _text_in(line: str, name: str) -> tuple[str, str]:
    """What is wrong with it, and the text."""
    from mrlclient.plan import is_sendable

    try:
        record = json.loads(line, object_pairs_hook=_object)
    except _TwiceError:
        return "has a key twice in one object. Leave one of the two", ""
    except (ValueError, RecursionError):
        return "is not JSON. Each line of a .jsonl file is one object", ""
    if not isinstance(record, dict):
        return f'is not a JSON object. Write each text as {{"{name}": "…"}}', ""
    if name not in record:
        return f"has no field {name!r}. Name the one that holds the text with --field", ""
    text = record[name]
    if not isinstance(text, str):
        return f"has a field {name!r} that is not a string", ""
    if not text.strip():
        return f"has a blank field {name!r}. Remove the line, so that rows and lines agree", ""
    if not is_sendable(text):
        return "holds a lone surrogate, which no provider can take. Take it out", ""
    return "", text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    return found
