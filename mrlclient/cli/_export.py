"""Writing a cache's entries to a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mrlclient.cli._output import opened
from mrlclient.errors import ConfigurationError, missing_extra

if TYPE_CHECKING:
    from mrlclient.keys import Entry

#: Entries in one row group of a Parquet file.
_GROUP = 2048

Writer = Callable[["Iterator[Entry]", Path], int]


def writer_for(output: Path) -> Writer:
    """What writes entries to a file of this ending, and counts them.

    Raises:
        ConfigurationError: If the ending is not known.
    """
    writers: dict[str, Writer] = {".parquet": _write_parquet, ".npy": _write_npy}
    if output.suffix.lower() not in writers:
        raise ConfigurationError("--output must end in .parquet or .npy.")
    return writers[output.suffix.lower()]


def _private(stream: Any) -> BinaryIO:
    """The bytes of a stream, which nobody else may read where it is a file: vectors tell about their texts."""
    if hasattr(os, "fchmod") and stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        os.fchmod(stream.fileno(), 0o600)
    binary: BinaryIO = stream.buffer
    return binary


def _write_parquet(items: Iterator[Entry], output: Path) -> int:
    arrow, parquet = _arrow()
    schema = arrow.schema(
        {
            "key": arrow.string(),
            "model": arrow.string(),
            "width": arrow.int32(),
            "tokens": arrow.float64(),
            "usd": arrow.float64(),
            "created": arrow.timestamp("us", tz="UTC"),
            "vector": arrow.list_(arrow.float32()),
        }
    )
    count = 0
    with opened(output) as stream, parquet.ParquetWriter(_private(stream), schema) as writer:
        while entries := list(islice(items, _GROUP)):
            rows = [(e.key.hex(), e.model, len(e.vector), e.tokens, e.usd, round(e.created * 1e6)) for e in entries]
            columns = [*map(list, zip(*rows, strict=True)), [entry.vector for entry in entries]]
            writer.write_table(arrow.table(dict(zip(schema.names, columns, strict=True)), schema=schema))
            count += len(entries)
    return count


def _arrow() -> tuple[Any, Any]:
    with suppress(ImportError):
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    raise missing_extra("pyarrow, which Parquet files need,", "parquet")


def _write_npy(items: Iterator[Entry], output: Path) -> int:
    import numpy as np

    first = next(items, None)
    if first is None:
        raise ConfigurationError("The cache is empty: there is nothing to write.")
    width, count = len(first.vector), 0

    def head() -> dict[str, Any]:
        return {"descr": "<f4", "fortran_order": False, "shape": (count, width)}

    with opened(output) as stream, opened(output.with_suffix(".keys.txt")) as keys:
        file, names = _private(stream), _private(keys)
        # numpy leaves room in a header for a matrix that grows: it is written again when the rows are counted.
        np.lib.format.write_array_header_1_0(file, head())
        for entry in chain([first], items):
            if (len(entry.vector), entry.model) != (width, first.model):
                raise ConfigurationError(
                    f"An .npy file holds one matrix, of one model: here are {first.model} at {width} and {entry.model} "
                    f"at {len(entry.vector)}. Write a .parquet file."
                )
            file.write(entry.vector.astype("<f4").tobytes())
            names.write(f"{entry.key.hex()}\n".encode())
            count += 1
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, head())
        file.seek(0, os.SEEK_END)
    return count
