"""The texts to embed: arguments, a file, or what is piped in."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrlclient.errors import ConfigurationError, InputError

_SURROGATE = re.compile("[\ud800-\udfff]")


class _TwiceError(Exception):
    """An object has a key twice."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts, and where they came from.

    Attributes:
        texts: In the order given; a file's text i is its line i + 1.
        source: The file, or None for arguments.
    """

    texts: list[str] = field(repr=False)
    source: str | None

    def placed(self, error: InputError) -> InputError:
        """The error with the line that it is about, where the texts are lines."""
        if self.source is None or error.index is None:
            return error
        line = f"{self.source}, line {error.index + 1}"
        said, counted = str(error), f"Text {error.index} "
        # The line is the text: counted once is enough.
        message = f"{line} {said.removeprefix(counted)}" if said.startswith(counted) else f"{line}: {said}"
        return InputError(message, index=error.index)


def read_texts(arguments: Sequence[str], file: Path | None, field_name: str | None) -> Texts:
    """Reads the texts from the one place that has them.

    Args:
        arguments: Texts on the command line.
        file: A file; `-` is standard input.
        field_name: The field of a `.jsonl` object; None for `text`.

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
        return Texts([_readable(text, index) for index, text in enumerate(arguments)], None)
    if file is None or str(file) == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise ConfigurationError("There is nothing to embed. Give texts as arguments, --file, or pipe them in.")
        return _from_lines("standard input", sys.stdin.buffer.read())
    if ending not in (".txt", ".jsonl"):
        raise ConfigurationError(
            f"--file reads .txt, a text a line, and .jsonl, an object a line. {file} is neither by its name."
        )
    lines = _from_lines(str(file), file.read_bytes())
    if ending == ".txt":
        return lines
    return Texts([_text_of(line, i, file, field_name or "text") for i, line in enumerate(lines.texts)], lines.source)


def _readable(text: str, index: int) -> str:
    """An argument, whose bytes could be read as text."""
    if _SURROGATE.search(text):
        raise InputError(
            f"Text {index} has bytes that this locale cannot read. Set a UTF-8 locale, such as LANG=C.UTF-8.",
            index=index,
        )
    return text


def _from_lines(source: str, data: bytes) -> Texts:
    try:
        # The three usual line ends only: str.splitlines would also cut a text at a form feed or a U+2028.
        lines = [line.removesuffix("\n") for line in io.StringIO(data.decode("utf-8-sig"), newline=None)]
    except UnicodeDecodeError:
        lines = None
    if lines is None:
        # Outside the except: the Unicode error holds the bytes, and would stay attached as the context.
        raise InputError(f"{source} is not UTF-8. Convert it first.")
    if not lines:
        raise InputError(f"{source} is empty: there is nothing to embed.")
    for index, line in enumerate(lines):
        if not line or line.isspace():
            raise InputError(
                f"{source}, line {index + 1} is blank. Remove it, so that rows and lines agree.", index=index
            )
    return Texts(lines, source)


def _text_of(line: str, index: int, file: Path, field_name: str) -> str:
    """The text in one line of JSON."""
    problem = None
    try:
        record = json.loads(line, object_pairs_hook=_object)
    except _TwiceError:
        problem = "has a key twice in one object. Leave one of the two"
    except (ValueError, RecursionError):
        problem = "is not JSON. Each line of a .jsonl file is one object"
    else:
        if not isinstance(record, dict):
            problem = 'is not a JSON object. Write each text as {"' + field_name + '": "…"}'
        elif field_name not in record:
            problem = f"has no field {field_name!r}. Name the one that holds the text with --field"
        elif not isinstance(record[field_name], str):
            problem = f"has a field {field_name!r} that is not a string"
        elif not record[field_name].strip():
            problem = f"has a blank field {field_name!r}. Remove the line, so that rows and lines agree"
        else:
            return str(record[field_name])
    raise InputError(f"{file}, line {index + 1} {problem}.", index=index)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    return found
