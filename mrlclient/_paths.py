"""The path of a file of ours, and the folders that it needs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mrlclient.errors import ConfigurationError


def full_path(path: str | os.PathLike[str]) -> Path:
    """The path, absolute; `~` is the home folder. The folders in it may be links, the file itself may not.

    Raises:
        ConfigurationError: If there can be no file at such a path.
    """
    given = os.fspath(path) if isinstance(path, str | os.PathLike) else b""
    if not (isinstance(given, str) and given):
        raise ConfigurationError(f"path must be the path of a file, not {path!r}.")
    # Lone surrogates stand for bytes that are no UTF-8.
    if "\0" in given or not given.encode("utf-8", "ignore").decode("utf-8") == given:
        raise ConfigurationError(f"There can be no file of ours at {given!a}: give a path in UTF-8, without zeros.")
    with suppress(RuntimeError):
        expanded = Path(given).expanduser()
        return Path(os.path.realpath(expanded.parent)) / expanded.name
    raise ConfigurationError(f"The home folder in {given!r} is not known here: give the whole path.")


def make_folders(path: Path) -> None:
    """Makes the folders of a file where they are missing, for the owner alone.

    Raises:
        OSError: If they cannot be made.
    """
    for folder in reversed(path.parents):
        # Not all systems say of a root that it exists: to make it is forbidden there.
        if not os.path.isdir(folder):  # noqa: PTH112 - raises nothing
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
