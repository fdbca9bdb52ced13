"""Embeddings as bytes: rows that can be written one after another, and what is written as a whole."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, TextIO

from mrlclient.cli._console import console, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mrlclient.result import EmbeddingResult

Format = Literal["table", "json", "jsonl", "npy"]

#: How much of the vectors the table shows.
_PREVIEW_TEXTS, _PREVIEW_NUMBERS = 10, 6


def head(chosen: Format, width: int, count: int) -> bytes:
    """What stands before so many rows. It is of one length, whatever their number."""
    if chosen == "jsonl":
        return b""
    import numpy as np

    data = io.BytesIO()
    # numpy leaves room in a header for a matrix that grows.
    np.lib.format.write_array_header_1_0(data, {"descr": "<f4", "fortran_order": False, "shape": (count, width)})
    return data.getvalue()


def rows(chosen: Format, result: EmbeddingResult, widths: Sequence[int], start: int) -> Iterator[bytes]:
    """The rows of a result whose first text is the one at `start`."""
    if chosen == "npy":
        yield result.at(widths[0]).astype("<f4", copy=False).tobytes()
        return
    facts = json.dumps(_facts(result, widths))[1:-1]
    for index, vectors in enumerate(zip(*(_arrays(result.at(width)) for width in widths), strict=True), start):
        row = ", ".join(f'"{width}": {numbers}' for width, numbers in zip(widths, vectors, strict=True))
        yield f'{{"index": {index}, {facts}, "embeddings": {{{row}}}}}\n'.encode()


def write_whole(chosen: Format, results: Iterable[EmbeddingResult], widths: Sequence[int], stream: TextIO) -> None:
    """Writes what is no format of rows: the preview, or one JSON document."""
    most = _PREVIEW_TEXTS if chosen == "table" else None
    result, count = _together(results, most)
    if chosen == "table":
        _write_preview(result, count, widths, stream)
        return
    usage = asdict(result.usage)
    facts = json.dumps(_facts(result, widths) | {"usage": usage})[1:-1]
    stream.write(f'{{{facts}, "embeddings": {{')
    for place, width in enumerate(widths):
        stream.write(f'{", " if place else ""}"{width}": [')
        stream.writelines(f"{', ' if index else ''}{row}" for index, row in enumerate(_arrays(result.at(width))))
        stream.write("]")
    stream.write("}}\n")


def _together(results: Iterable[EmbeddingResult], most: int | None) -> tuple[EmbeddingResult, int]:
    """One result of several, with `most` rows of each at most, and how many rows there were."""
    import numpy as np

    from mrlclient.result import Usage

    count, matrices, usages, made = 0, [], [], None
    for result in results:
        count += len(result)
        matrices.append(result.embeddings[:most])
        usages.append(result.usage)
        if made is None or result.reduction == "client":
            made = result
    assert made is not None, "nothing to embed is refused before"
    tokens, usd = [usage.tokens for usage in usages], [usage.usd for usage in usages]
    usage = Usage(
        tokens=None if None in tokens else sum(filter(None, tokens)),
        usd=None if None in usd else sum(filter(None, usd)),
        cached_texts=sum(usage.cached_texts for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        saved_usd=sum(usage.saved_usd for usage in usages),
    )
    return replace(made, floats=np.concatenate(matrices)[:most], usage=usage), count


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


def _arrays(matrix: NDArray[np.float32]) -> Iterator[str]:
    """Each row, of unit length, as a JSON array. Nine digits are what it takes to read the same float32 back."""
    # One format for a whole row: twice as fast as the json module, which would also write twice the digits.
    numbers = f"[{', '.join(['%#.9g'] * matrix.shape[1])}]"
    return (numbers % tuple(row.tolist()) for row in matrix)


def _write_preview(result: EmbeddingResult, count: int, widths: Sequence[int], stream: TextIO) -> None:
    preview = table("text", "width", f"the first {_PREVIEW_NUMBERS} numbers", left=0)
    matrices = {width: result.at(width) for width in widths}
    for index in range(len(result)):
        for width, matrix in matrices.items():
            numbers = " ".join(f"{number:+.4f}" for number in matrix[index, :_PREVIEW_NUMBERS])
            preview.add_row(str(index), str(width), numbers)
    console(stream).print(preview)
    if count > len(result):
        stream.write(f"and {count - len(result):,} more texts\n")
    usage = result.usage
    stream.write(
        f"\n{result.provider}:{result.model}, space {result.space}\nreduction {result.reduction}"
        + (f", input type {result.input_type}" if result.input_type else "")
        + (f", task {result.task}" if result.task else "")
        + (f", {usage.tokens} tokens" if usage.tokens is not None else "")
        + (f", {usage.usd:g} USD" if usage.usd is not None else "")
        + "\nThis is a preview. --format json, jsonl or npy gives the whole vectors.\n"
    )
