"""Where embeddings are written, and in which format."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    """The format asked for, else what the output file's ending says, else the table.

    Raises:
        ConfigurationError: If the format cannot hold what is asked for, or may not go where it is to go.
    """
    by_ending: dict[str, Format] = {f".{name}": name for name in get_args(Format)}
    chosen = asked or by_ending.get(output.suffix if output else "", "table")
    if chosen == "npy" and len(widths) > 1:
        raise ConfigurationError(
            f"An npy file holds one matrix, and {len(widths)} widths are asked for. "
            "Give one width, or use --format json or jsonl."
        )
    if chosen == "npy" and output is None and sys.stdout.isatty():
        raise ConfigurationError("npy is binary, and this is a terminal. Name a file with --output, or pipe it.")
    return chosen


@contextmanager
def opened(output: Path | None) -> Iterator[TextIO]:
    """The stream to write to: stdout, or a file that appears whole or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    if output is None:
        yield sys.stdout
        return
    target = output.resolve()
    if target.exists() and not target.is_file():
        # A device or a named pipe is written to: it cannot be replaced.
        with target.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        stream = part.open("x", encoding="utf-8", newline="\n")
    except OSError as error:
        # Said of the file that was asked for, not of the one beside it.
        raise OSError(error.errno, error.strerror, str(output)) from None
    try:
        with stream:
            yield stream
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def write(result: EmbeddingResult, widths: Sequence[int], chosen: Format, stream: TextIO) -> None:
    """Writes the embeddings at each width."""
    if chosen == "table":
        _write_preview(result, widths, stream)
    elif chosen == "json":
        embeddings = {str(width): _numbers(result.at(width)) for width in widths}
        usage = {"tokens": result.usage.tokens, "usd": result.usage.usd}
        json.dump(_facts(result, widths) | {"usage": usage, "embeddings": embeddings}, stream)
        stream.write("\n")
    elif chosen == "jsonl":
        facts = _facts(result, widths)
        matrices = {str(width): result.at(width) for width in widths}
        for index in range(len(result)):
            row = {width: _numbers(matrix[index]) for width, matrix in matrices.items()}
            stream.write(json.dumps({"index": index} | facts | {"embeddings": row}) + "\n")
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


def _numbers(vectors: NDArray[np.float32]) -> Any:
    """Nested lists with the shortest decimals that are the same float32 numbers when read back."""
    return vectors.astype(str).astype(float).tolist()


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
