"""Where embeddings are written, and in which format."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO, get_args

from mrlclient.cli._formats import Format
from mrlclient.errors import ConfigurationError


def choose_format(asked: Format | None, output: Path | None, widths: Sequence[int]) -> Format:
    """The format asked for, else what the output file's ending says; without a file, the table.

    Raises:
        ConfigurationError: If the format cannot hold what is asked for, or may not go where it is to go.
    """
    chosen = asked or (_by_ending(output) if output else "table")
    if chosen == "npy" and len(widths) > 1:
        raise ConfigurationError(
            f"An npy file holds one matrix, and {len(widths)} widths are asked for. "
            "Give one width, or use --format json or jsonl."
        )
    if chosen == "npy" and output is None and sys.stdout.isatty():
        raise ConfigurationError("npy is binary, and this is a terminal. Name a file with --output, or pipe it.")
    return chosen


def _by_ending(output: Path) -> Format:
    endings: dict[str, Format] = {f".{name}": name for name in get_args(Format) if name != "table"}
    if (ending := output.suffix.lower()) not in endings:
        raise ConfigurationError(
            f"The name {output} does not say which format to write. End it in .json, .jsonl or .npy, or give --format."
        )
    return endings[ending]


def check_apart(file: Path | None, output: Path | None) -> None:
    """Refuses to write over what is read.

    Raises:
        ConfigurationError: If both are the same file.
    """
    same = False
    if file and output:
        with suppress(FileNotFoundError):
            same = file.samefile(output)
    if same:
        raise ConfigurationError(f"--output {output} is the file that the texts come from. Name another one.")


@contextmanager
def opened(output: Path | None) -> Iterator[TextIO]:
    """The stream to write to: stdout, or a file that appears whole or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    if output is None:
        # Where it is closed, this says so.
        sys.stdout.write("")
        yield sys.stdout
        return
    if is_special(output):
        # It is written to by its own name, and not replaced. What a shell sent there before is kept.
        with output.open("a", encoding="utf-8", newline="\n") as stream:
            yield stream
        return
    # Path.resolve would choke on a link to itself.
    target = Path(os.path.realpath(output))
    part = target.with_name(f".mrlclient-{secrets.token_hex(8)}.part")
    try:
        stream = part.open("x", encoding="utf-8", newline="\n")
    except OSError as error:
        # Said of the file that was asked for, not of the one beside it.
        raise OSError(error.errno, error.strerror, str(output)) from None
    try:
        with stream:
            if target.exists():
                part.chmod(stat.S_IMODE(target.stat().st_mode))
            yield stream
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def is_special(output: Path) -> bool:
    """Whether it is a device or a pipe, or stands for a stream of this process."""
    stands_for_a_stream = str(output).startswith(("/dev/std", "/dev/fd/", "/proc/"))
    return stands_for_a_stream or (output.exists() and not output.is_file())
