"""Where embeddings are written, and in which format."""

from __future__ import annotations

import io
import json
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, get_args

from mrlclient.cli._console import console, table
from mrlclient.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mrlclient.result import EmbeddingResult

Format = Literal["table", "json", "jsonl", "npy"]

#: How much of the vectors the table shows.
_PREVIEW_TEXTS, _PREVIEW_NUMBERS = 10, 6


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
    if _is_special(output):
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


def _is_special(output: Path) -> bool:
    """Whether it is a device or a pipe, or stands for a stream of this process."""
    stands_for_a_stream = str(output).startswith(("/dev/std", "/dev/fd/", "/proc/"))
    return stands_for_a_stream or (output.exists() and not output.is_file())


def write(result: EmbeddingResult, widths: Sequence[int], chosen: Format, stream: TextIO) -> None:
    """Writes the embeddings at each width."""
    if chosen == "table":
        _write_preview(result, widths, stream)
    elif chosen == "json":
        usage = asdict(result.usage)
        facts = json.dumps(_facts(result, widths) | {"usage": usage})[1:-1]
        stream.write(f'{{{facts}, "embeddings": {{')
        for place, width in enumerate(widths):
            stream.write(f'{", " if place else ""}"{width}": [')
            stream.writelines(f"{', ' if index else ''}{row}" for index, row in enumerate(_rows(result.at(width))))
            stream.write("]")
        stream.write("}}\n")
    elif chosen == "jsonl":
        facts = json.dumps(_facts(result, widths))[1:-1]
        for index, rows in enumerate(zip(*(_rows(result.at(width)) for width in widths), strict=True)):
            row = ", ".join(f'"{width}": {numbers}' for width, numbers in zip(widths, rows, strict=True))
            stream.write(f'{{"index": {index}, {facts}, "embeddings": {{{row}}}}}\n')
    else:
        import numpy as np

        # In memory first: numpy asks a real file for its position, which a pipe has not.
        data = io.BytesIO()
        np.save(data, result.at(widths[0]), allow_pickle=False)
        stream.flush()
        stream.buffer.write(data.getbuffer())


def _facts(result: EmbeddingResult, widths: Sequence[int]) -> dict[str, Any]:
    return {
        "provider": result.provider,
        "model": result.model,
        "space": result.space,
        "dimensions": list(widths),
        "reduction": result.reduction,
        "input_type": result.input_type,
        "task": result.task,
    }


def _rows(matrix: NDArray[np.float32]) -> Iterator[str]:
    """Each row, of unit length, as a JSON array. Nine digits are what it takes to read the same float32 back."""
    # One format for a whole row: twice as fast as the json module, which would also write twice the digits.
    numbers = f"[{', '.join(['%#.9g'] * matrix.shape[1])}]"
    return (numbers % tuple(row.tolist()) for row in matrix)


def _write_preview(result: EmbeddingResult, widths: Sequence[int], stream: TextIO) -> None:
    preview = table("text", "width", f"the first {_PREVIEW_NUMBERS} numbers", left=0)
    matrices = {width: result.at(width) for width in widths}
    for index in range(min(len(result), _PREVIEW_TEXTS)):
        for width, matrix in matrices.items():
            numbers = " ".join(f"{number:+.4f}" for number in matrix[index, :_PREVIEW_NUMBERS])
            preview.add_row(str(index), str(width), numbers)
    console(stream).print(preview)
    if len(result) > _PREVIEW_TEXTS:
        stream.write(f"and {len(result) - _PREVIEW_TEXTS} more texts\n")
    usage = result.usage
    stream.write(
        f"\n{result.provider}:{result.model}, space {result.space}\nreduction {result.reduction}"
        + (f", input type {result.input_type}" if result.input_type else "")
        + (f", task {result.task}" if result.task else "")
        + (f", {usage.tokens} tokens" if usage.tokens is not None else "")
        + (f", {usage.usd:g} USD" if usage.usd is not None else "")
        + "\nThis is a preview. --format json, jsonl or npy gives the whole vectors.\n"
    )
