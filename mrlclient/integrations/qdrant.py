"""Qdrant: the configuration of a collection for an embedder's vectors, and its contract in the collection's metadata.

Nothing here asks a server, so that it serves `QdrantClient` and `AsyncQdrantClient` alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrlclient.contract import IndexContract
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._embedder import missing
from mrlclient.integrations._index_vectors import IndexVectors, held_contract

try:
    from qdrant_client import models
except ModuleNotFoundError as error:
    raise missing(error, "qdrant") from None

__all__ = ["IndexVectors", "contract_in", "metadata", "vector_params"]

_KEY = "mrlclient_contract"


def vector_params(vectors: IndexVectors) -> models.VectorParams:
    """The width, and the distance: the inner product, which is the cosine of unit vectors without dividing again.

    Pass it as `vectors_config`, or as one of its named vectors.
    """
    return models.VectorParams(size=vectors.dimensions, distance=models.Distance.DOT)


def metadata(vectors: IndexVectors, *, vector_name: str = "") -> dict[str, Any]:
    """The contract, to be passed as `metadata` to `create_collection` or `update_collection`.

    Args:
        vectors: What goes into the collection.
        vector_name: Which of its named vectors it is; the unnamed one by default.
    """
    return {_key(vector_name): vectors.contract.to_dict()}


def contract_in(info: models.CollectionInfo, *, vector_name: str = "") -> IndexContract:
    """The contract of a collection, for `IndexVectors.open`.

    Args:
        info: What `client.get_collection(name)` returned.
        vector_name: Which of its named vectors is meant; the unnamed one by default.

    Raises:
        ConfigurationError: If it has no such vector, no contract of it, or one that is damaged or of another width.
    """
    given = info.config.params.vectors or {}
    params: Mapping[str, Any] = {"": given} if isinstance(given, models.VectorParams) else given
    if vector_name not in params:
        known = ", ".join(map(repr, params)) or "none"
        raise ConfigurationError(f"The collection has no vector {vector_name!r}. It has {known}: pass vector_name=.")
    held = (info.config.metadata or {}).get(_key(vector_name))
    return held_contract(held, "The collection", params[vector_name].size)


def _key(vector_name: str) -> str:
    return f"{_KEY}:{vector_name}" if vector_name else _KEY
