"""FAISS: an index for an embedder's vectors, and its contract in a file beside the index's."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._embedder import missing
from mrlclient.integrations._index_vectors import IndexVectors, check_same_width
from mrlclient.integrations._sidecar import read_contract, write_both

try:
    # By name: a checker without FAISS would take this file for it.
    faiss: Any = import_module("faiss")
except ModuleNotFoundError as error:
    raise missing(error, "faiss") from None

__all__ = ["IndexVectors", "new_index", "read_contract", "read_index", "write_index"]


def new_index(vectors: IndexVectors, factory: str = "Flat") -> Any:
    """An empty index of the right width, whose distance is the inner product: that of unit vectors is the cosine.

    Args:
        vectors: What will go into it.
        factory: What kind of index, in FAISS's own words, such as `"HNSW32"` or `"IVF1024,SQ8"`.

    Returns:
        A `faiss.Index`. It takes `chunk.embeddings` of `vectors.batches`, and `vectors.query(text)[None]` to search.

    Raises:
        ConfigurationError: If FAISS knows no such kind.
    """
    try:
        return faiss.index_factory(vectors.dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError:
        problem = f"FAISS makes no index {factory!r} of {vectors.dimensions} dimensions."
    raise ConfigurationError(problem)


def write_index(index: Any, path: str | os.PathLike[str], vectors: IndexVectors) -> None:
    """Writes an index, and its contract to `PATH.contract.json`.

    Raises:
        ConfigurationError: If the index has another width than the contract, or they cannot be written.
    """
    check_same_width(vectors.contract, f"The index of {os.fspath(path)}", index.d)
    write_both(path, vectors.contract, lambda to: faiss.write_index(index, to))


def read_index(path: str | os.PathLike[str], embedder: Embedder, *, canary: bool = True) -> tuple[Any, IndexVectors]:
    """Reads an index that `write_index` wrote, once the embedder's vectors are known to belong to it.

    Args:
        path: The index's file.
        embedder: The embedder to search it with, or to add to it.
        canary: Whether to check the model itself too, with one request; see `IndexContract.check`.

    Returns:
        The `faiss.Index`, and the embedder's vectors for it.

    Raises:
        IncompatibleSpaceError: If the embedder's vectors do not belong to the index.
        ConfigurationError: If there is no contract beside it, or one of them cannot be read.
        MRLError: As `IndexContract.check`.
    """
    vectors = IndexVectors.open(embedder, read_contract(path), canary=canary)
    try:
        index = faiss.read_index(os.fspath(path))
    except RuntimeError as error:
        # FAISS's message begins with a place in its own code.
        problem = str(error).rpartition("Error: ")[2] or str(error)
    else:
        check_same_width(vectors.contract, f"The index of {os.fspath(path)}", index.d)
        return index, vectors
    raise ConfigurationError(f"FAISS cannot read {os.fspath(path)}: {problem}")
