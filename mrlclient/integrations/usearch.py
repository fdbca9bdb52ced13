"""USearch: an index for an embedder's vectors, and its contract in a file beside the index's."""

from __future__ import annotations

import os
from typing import Any

from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._embedder import missing
from mrlclient.integrations._index_vectors import IndexVectors, check_same_width
from mrlclient.integrations._sidecar import read_contract, write_both

try:
    from usearch.index import Index
except ModuleNotFoundError as error:
    raise missing(error, "usearch") from None

__all__ = ["IndexVectors", "new_index", "read_contract", "read_index", "write_index"]


def new_index(vectors: IndexVectors, *, dtype: str = "f32") -> Any:
    """An empty index of the right width, whose distance is 1 - the cosine.

    Args:
        vectors: What will go into it.
        dtype: How numbers are kept: `"f32"` as they come, or `"f16"`, `"bf16"`, `"i8"`. USearch by itself takes what
            the processor is best at, which loses digits.

    Returns:
        A `usearch.index.Index`. It takes keys and `chunk.embeddings` of `vectors.batches`, and `vectors.query(text)` to
        search.

    Raises:
        ConfigurationError: If USearch knows no such dtype.
    """
    if dtype not in ("f32", "f16", "bf16", "i8"):
        raise ConfigurationError(f"dtype must be 'f32', 'f16', 'bf16' or 'i8', not {dtype!r}.")
    # Of i8 codes USearch takes the inner product as they stand: thousands.
    return Index(ndim=vectors.dimensions, metric="cos" if dtype == "i8" else "ip", dtype=dtype)


def write_index(index: Any, path: str | os.PathLike[str], vectors: IndexVectors) -> None:
    """Writes an index, and its contract to `PATH.contract.json`.

    Raises:
        ConfigurationError: If the index has another width than the contract, or they cannot be written.
    """
    check_same_width(vectors.contract, f"The index of {os.fspath(path)}", index.ndim)
    write_both(path, vectors.contract, index.save)


def read_index(
    path: str | os.PathLike[str], embedder: Embedder, *, canary: bool = True, view: bool = False
) -> tuple[Any, IndexVectors]:
    """Reads an index that `write_index` wrote, once the embedder's vectors are known to belong to it.

    Args:
        path: The index's file.
        embedder: The embedder to search it with, or to add to it.
        canary: Whether to check the model itself too, with one request; see `IndexContract.check`.
        view: Whether to leave it on disk, and read only what a search needs. Nothing can be added then.

    Returns:
        The `usearch.index.Index`, and the embedder's vectors for it.

    Raises:
        IncompatibleSpaceError: If the embedder's vectors do not belong to the index.
        ConfigurationError: If there is no contract beside it, or one of them cannot be read.
        MRLError: As `IndexContract.check`.
    """
    vectors = IndexVectors.open(embedder, read_contract(path), canary=canary)
    try:
        index = Index.restore(os.fspath(path), view=view)
        problem = "it is not there"
    except (RuntimeError, ValueError) as error:
        index, problem = None, str(error)
    if index is None:
        raise ConfigurationError(f"USearch cannot read {os.fspath(path)}: {problem}")
    check_same_width(vectors.contract, f"The index of {os.fspath(path)}", index.ndim)
    return index, vectors
