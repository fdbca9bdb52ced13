"""Where the configuration is: which file, and on which line of it."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mrlclient.errors import ConfigurationError

#: A place in a configuration: the keys and indexes that lead there.
Place = tuple[str | int, ...]

OWN, PROJECT = "mrlclient.toml", "pyproject.toml"
_TABLE = ("tool", "mrlclient")

#: What may have to be closed behind the first lines of a value that goes over several: only arrays do.
_CLOSERS = ("]", "]]", "]}", "]}]", "}", "}]")


@dataclass(frozen=True)
class File:
    """A configuration: `mrlclient.toml`, or the table `tool.mrlclient` of a `pyproject.toml`."""

    path: Path
    text: str

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """What it holds; nothing where a `pyproject.toml` has no such table."""
        return _inside(tomllib.loads(self.text), self.root) or {}

    @property
    def root(self) -> Place:
        """The place of the configuration within the file."""
        return _TABLE if self.path.name == PROJECT else ()

    @property
    def folder(self) -> Path:
        """What its relative paths are relative to."""
        return Path(os.path.abspath(self.path.parent))  # noqa: PTH100  # resolve() would follow links

    def line(self, at: Place) -> int:
        """The line on which something stands; of what encloses it where it is not there itself.

        TOML's reader tells no lines. So it reads the first lines of the file, up to where the thing appears: it stands
        in the last statement of these.
        """
        at = (*self.root, *at)
        whole = tomllib.loads(self.text)
        while at and not _holds(whole, at):
            at = at[:-1]
        if not at:
            return 1
        lines = self.text.split("\n")
        low, high, end = 0, len(lines), len(lines)
        while low < high:
            middle = (low + high) // 2
            # A prefix that ends within a value says nothing.
            place = next((n for n in range(middle, high) if _read(lines[:n]) is not None), None)
            if place is None or _holds(_read(lines[:place]), at):
                end, high = end if place is None else place, middle
            else:
                low = place + 1
        start = next(n for n in range(end - 1, -1, -1) if _read(lines[:n]) is not None)
        for n in range(start + 1, end):
            if any(_holds(_read([*lines[:n], closer]), at) for closer in _CLOSERS):
                return n
        # A string of several lines has nothing within; of an array it is the last item.
        is_array = any(_read([*lines[: start + 1], closer]) is not None for closer in _CLOSERS)
        return end if is_array else start + 1


def find_file() -> File | None:
    """The file that `MRLCLIENT_CONFIG` names; else the nearest, from the working folder upwards; else the user's own.

    Raises:
        ConfigurationError: If there is one and it cannot be read.
    """
    named = os.environ.get("MRLCLIENT_CONFIG", "").strip()
    if named:
        return open_file(expanded(named))
    for folder in _folders():
        if os.path.lexists(folder / OWN):
            return open_file(folder / OWN)
        project = folder / PROJECT
        # Unlike Path.is_file, it takes a folder that may not be looked into for one without the file.
        if os.path.isfile(project):  # noqa: PTH113
            file = File(project, _text(project))
            # One that has nothing to do with us may be as broken as it likes.
            if "mrlclient" in file.text and _inside(_parsed(file), _TABLE) is not None:
                return file
    own = _user_folder() / "mrlclient" / OWN
    return open_file(own) if os.path.lexists(own) else None


def open_file(path: Path) -> File:
    """Reads a configuration.

    Raises:
        ConfigurationError: If it cannot be read, is not TOML, or is a `pyproject.toml` without the table.
    """
    file = File(path, _text(path))
    if _inside(_parsed(file), file.root) is None:
        raise ConfigurationError(f"{path} has no table [tool.mrlclient]. Write one, or name another file.")
    return file


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path, with `~` for the home folder where that is known."""
    with suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def _folders() -> Iterator[Path]:
    """The working folder and those around it; none where it has been deleted."""
    with suppress(OSError):
        here = Path.cwd()
        yield from (here, *here.parents)


def _user_folder() -> Path:
    """Where a user's configurations are.

    As uv and Ruff have it, on macOS too. What platformdirs says of macOS is another place, and it says no more.
    """
    if sys.platform == "win32":
        return expanded(os.environ.get("APPDATA", "~"))
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative path is to be ignored: XDG Base Directory Specification.
    return Path(home) if home.startswith("/") else expanded("~/.config")


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise ConfigurationError(f"{path} is a folder. A configuration is a file.") from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "that is no path"
        raise ConfigurationError(f"{path} cannot be read: {problem}.") from None
    try:
        # Editors of Windows begin a file with a mark, which TOML does not know.
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    raise ConfigurationError(f"{path}:{line}: it is not UTF-8. Save it as UTF-8.")


def _parsed(file: File) -> dict[str, Any]:
    try:
        return tomllib.loads(file.text)
    except RecursionError:
        problem, line = "it is nested too deeply", 1
    except tomllib.TOMLDecodeError as error:
        problem, _, place = str(error).rpartition(" (at ")
        found = re.match(r"line (\d+), column (\d+)", place)
        lines = file.text.split("\n")
        if found is None:
            # It ends within a statement: where that begins is where to look.
            whole = (n for n in range(len(lines), -1, -1) if _read(lines[:n]) is not None)
            line = min(next(whole) + 1, len(lines))
        else:
            line, problem = int(found[1]), f"{problem}, in column {found[2]}"
    raise ConfigurationError(f"{file.path}:{line}: it is not TOML: {problem}.")


def _read(lines: Sequence[str]) -> dict[str, Any] | None:
    """What the lines say; None where they are not whole."""
    try:
        return tomllib.loads("\n".join(lines))
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _inside(values: Any, at: Place) -> Any:
    """What stands there; None where nothing does."""
    for part in at:
        try:
            values = None if isinstance(values, str) else values[part]
        except (LookupError, TypeError):
            return None
    return values


def _holds(values: Any, at: Place) -> bool:
    return values is not None and _inside(values, at) is not None
