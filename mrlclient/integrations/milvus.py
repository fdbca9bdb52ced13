"""Milvus: what a collection for an embedder's vectors is created with, and its contract in the collection's properties.

Nothing here asks a server, so that it serves `MilvusClient` and `AsyncMilvusClient` alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrlclient.contract import IndexContract
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._index_vectors import IndexVectors, held_contract

__all__ = ["METRIC", "IndexVectors", "contract_in", "properties"]

#: The distance of unit vectors, for `metric_type`: the inner product is their cosine, without dividing again.
METRIC = "IP"

_KEY = "mrlclient.contract"


def properties(vectors: IndexVectors, *, field: str = "vector") -> dict[str, str]:
    """The contract, to be passed as `properties` to `create_collection`, or to `alter_collection_properties`.

    Args:
        vectors: What goes into the collection.
        field: The vector field that they go into.
    """
    return {f"{_KEY}.{field}": vectors.contract.to_json()}


def contract_in(description: Mapping[str, Any], *, field: str = "vector") -> IndexContract:
    """The contract of a collection, for `IndexVectors.open`.

    Args:
        description: What `client.describe_collection(name)` returned.
        field: The vector field that is meant.

    Raises:
        ConfigurationError: If it has no such field, no contract of it, or one that is damaged or of another width.
    """
    widths = {each["name"]: each["params"]["dim"] for each in description["fields"] if "dim" in each["params"]}
    if field not in widths:
        known = ", ".join(map(repr, widths)) or "none"
        raise ConfigurationError(f"The collection has no vector field {field!r}. It has {known}: pass field=.")
    where = f"The collection {description.get('collection_name')!r}"
    return held_contract((description.get("properties") or {}).get(f"{_KEY}.{field}"), where, int(widths[field]))
