"""Files of records: JSONL, CSV, TSV and Parquet, a dict for each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from mrlclient.errors import InputError, missing_extra
from mrlclient.providers._json import UnusableError, object_once

#: A field of a .csv file may be longer than csv's own limit of 131,072 characters.
_LONGEST_FIELD = 1 << 30


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record, and its place: `FILE:LINE`, or `FILE: row N` where a file has no lines.

    Raises:
        InputError: If the file is of a kind that is not read, or a record cannot be; nothing of it is quoted.
        MissingExtraError: If a Parquet file is given and `pyarrow` is not installed.
        OSError: If the file cannot be read.
    """
    readers: dict[str, Callable[[Path], Iterator[tuple[str, dict[str, Any]]]]] = {
        ".jsonl": _jsonl,
        ".csv": lambda path: _separated(path, ","),
        ".tsv": lambda path: _separated(path, "\t"),
        ".parquet": _parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is of no kind that is read here by its name: {', '.join(readers)}.")
    yield from reader(path)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
    # Outside the except: the Unicode error holds the bytes, and would stay attached as the context.
    raise InputError(f"{path}:{line} is not UTF-8. Convert the file first.")


def _jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(io.StringIO(_text(path), newline=None), start=1):
        place = f"{path}:{number}"
        if not line.strip():
            raise InputError(f"{place} is blank. Remove it: each line of a .jsonl file is one object.")
        problem, record = None, {}
        try:
            record = json.loads(line, object_pairs_hook=object_once)
        except UnusableError:
            problem = "has a key twice in one object. Leave one of the two"
        except (ValueError, RecursionError):
            problem = "is not JSON. Each line of a .jsonl file is one object"
        else:
            if not isinstance(record, dict):
                problem = "is no JSON object. Each line of a .jsonl file is one"
        if problem:
            raise InputError(f"{place} {problem}.")
        yield place, record


def _separated(path: Path, delimiter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(
        io.StringIO(_text(path), newline=""),
        delimiter=delimiter,
        # In a .tsv file of judgements a quote is a quote.
        quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    heads: list[str] | None = None
    begun, problem = 1, None
    try:
        for row in reader:
            place, begun = f"{path}:{begun}", reader.line_num + 1
            if heads is None:
                heads = row
                if len(set(heads)) < len(heads):
                    problem = f"{place} names a column twice. Rename one of them"
                    break
            elif len(row) != len(heads):
                problem = f"{place} has {len(row)} fields, and the first line has {len(heads)}"
                break
            else:
                yield place, dict(zip(heads, row, strict=True))
    except csv.Error:
        problem = f"{path}:{begun} is not CSV: a quote is not closed, or stands inside a field"
    if problem:
        raise InputError(f"{problem}.")


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        parquet = import_module("pyarrow.parquet")
        arrow = import_module("pyarrow")
    except ImportError:
        raise missing_extra("pyarrow, which reads Parquet,", "parquet") from None
    path.open("rb").close()
    row = 0
    broken = False
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            for record in batch.to_pylist():
                row += 1
                yield f"{path}: row {row}", record
    except arrow.ArrowException:
        broken = True
    if broken:
        raise InputError(f"{path} cannot be read as Parquet beyond row {row}. Write it again.")


def field_of(record: Mapping[str, Any], name: str) -> Any:
    """A field of a record, or of its `metadata`, where BEIR keeps what is neither id nor text; None without one."""
    if name in record:
        return record[name]
    metadata = record.get("metadata")
    return metadata.get(name) if isinstance(metadata, Mapping) else None
