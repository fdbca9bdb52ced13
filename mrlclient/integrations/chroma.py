"""`MRLEmbeddingFunction` for Chroma: a collection stores which embedder it belongs to, and refuses any other.

Import this module wherever such a collection is opened: Chroma finds the function by its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from mrlclient._frames import discreet
from mrlclient.contract import IndexContract
from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError, IncompatibleSpaceError
from mrlclient.integrations._embedder import Model, missing
from mrlclient.integrations._index import Index

try:
    from chromadb import Documents, EmbeddingFunction, Embeddings
    from chromadb.utils.embedding_functions import register_embedding_function
except ModuleNotFoundError as error:
    raise missing(error, "chroma") from None

if TYPE_CHECKING:
    from chromadb.api import AsyncClientAPI, ClientAPI
    from chromadb.api.models.AsyncCollection import AsyncCollection
    from chromadb.api.models.Collection import Collection
    from chromadb.api.types import Space

__all__ = ["MRLEmbeddingFunction", "aopen_collection", "open_collection"]

_KEYS = {"profile", "contract"}


@register_embedding_function
class MRLEmbeddingFunction(EmbeddingFunction[Documents]):  # type: ignore[misc, unused-ignore]
    """Embeds the documents of a collection as documents, and its search texts as queries.

    Pass it to `client.create_collection`. The configuration of the collection then holds the embedder's profile, which
    may name the variable of a key but never holds one, and the contract of the index. To open the collection, pass
    Chroma no function, or use `open_collection`: Chroma compares only the name of a function that it is passed.

    Args:
        model: An address such as `"openai:text-embedding-3-small"`, a profile's values, or an embedder, which you close
            yourself.
        dimensions: The width, if `model` is an address.

    Raises:
        ConfigurationError: If the embedder holds a key or an object of yours, which a profile cannot hold.
        MRLError: As `Embedder`, and as `Embedder.contract`: the provider is asked once.
    """

    @discreet
    def __init__(self, model: Model = None, *, dimensions: int | None = None) -> None:
        self._index = Index(model, dimensions)
        # Now, what costs nothing first: Chroma takes an error of `get_config` for a reason to keep no configuration.
        self._profile = self._index.embedder.to_dict()
        self._contract = self._index.contract

    @property
    def embedder(self) -> Embedder:
        """The embedder, once checked to belong to the collection. If it was made here, close it with its `close`."""
        return self._index.embedder

    @discreet
    def __call__(self, input: Documents) -> Embeddings:  # noqa: A002  Chroma looks at the name
        return [*self._index.embed(input, "document")]

    @discreet
    def embed_query(self, input: Documents) -> Embeddings:  # noqa: A002
        return [*self._index.embed(input, "query")]

    @staticmethod
    def name() -> str:
        return "mrlclient"

    def default_space(self) -> Space:
        return "cosine"

    def supported_spaces(self) -> list[Space]:
        # Of unit vectors all three give the same order.
        return ["cosine", "ip", "l2"]

    def get_config(self) -> dict[str, Any]:
        return {"profile": self._profile, "contract": self._contract.to_dict()}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> MRLEmbeddingFunction:
        # Chroma builds it for every call. Nothing is made or asked before the first text.
        return _stored(json.dumps(config, sort_keys=True))

    @staticmethod
    def validate_config(config: dict[str, Any]) -> None:
        if not (isinstance(config, Mapping) and set(config) == _KEYS and isinstance(config["profile"], Mapping)):
            raise ConfigurationError(f"The configuration must hold {' and '.join(sorted(_KEYS))}, as of get_config.")
        IndexContract.from_dict(config["contract"])

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        for config in (old_config, new_config):
            self.validate_config(config)
        old, new = (IndexContract.from_dict(config["contract"]) for config in (old_config, new_config))
        try:
            if (old.model, old.dimensions) != (new.model, new.dimensions):
                raise IncompatibleSpaceError(
                    f"The collection holds vectors of {old.model}, {old.dimensions} wide, and the new configuration is "
                    f"of {new.model} and {new.dimensions}."
                )
            old.check(self.embedder)
        except IncompatibleSpaceError as error:
            raise IncompatibleSpaceError(
                f"{error} Chroma has stored the new configuration before it asked: give this collection's modify the "
                "function of before."
            ) from None


def open_collection(client: ClientAPI, name: str, model: Model = None, *, dimensions: int | None = None) -> Collection:
    """Opens a collection that was made with `MRLEmbeddingFunction`, with an embedder that belongs to it.

    Args:
        client: The client.
        name: The collection's name.
        model: As for `MRLEmbeddingFunction`; by default the collection's own. A wider embedder is used at the
            collection's width.
        dimensions: The width, if `model` is an address.

    Raises:
        IncompatibleSpaceError: If its vectors do not belong to the collection.
        ConfigurationError: If the collection was not made with `MRLEmbeddingFunction`.
        MRLError: As `Embedder`, and as the provider fails.
    """
    found = client.get_collection(name, embedding_function=None)
    function = _function_for(found, model, dimensions)
    _ = function.embedder  # checked
    # Chroma declares a function of texts or images.
    return client.get_collection_by_id(found.id, embedding_function=cast("Any", function))


async def aopen_collection(
    client: AsyncClientAPI, name: str, model: Model = None, *, dimensions: int | None = None
) -> AsyncCollection:
    """`open_collection` for the running event loop, with an `AsyncHttpClient`.

    Chroma itself embeds without `await`, which blocks the loop meanwhile.

    Raises:
        MRLError: As `open_collection`.
    """
    found = await client.get_collection(name, embedding_function=None)
    function = _function_for(found, model, dimensions)
    await function._index.aembedder()
    return await client.get_collection_by_id(found.id, embedding_function=cast("Any", function))


def _function_for(found: Collection | AsyncCollection, model: Model, dimensions: int | None) -> MRLEmbeddingFunction:
    """The function for an embedder, or the collection's own, with the contract that the collection has."""
    stored = found.configuration_json.get("embedding_function") or {}
    if stored.get("name") != MRLEmbeddingFunction.name():
        raise ConfigurationError(
            f"The collection {found.name!r} was not made with MRLEmbeddingFunction, so nothing is known of its vectors."
        )
    function = MRLEmbeddingFunction.build_from_config(stored["config"])
    if model is None and dimensions is None:
        return function
    return _assemble(stored["config"], model, dimensions)


@lru_cache(maxsize=32)
def _stored(config: str) -> MRLEmbeddingFunction:
    """The function of a collection's configuration; one for all that have the same, with one set of connections."""
    values = json.loads(config)
    MRLEmbeddingFunction.validate_config(values)
    return _assemble(values, values["profile"])


def _assemble(config: dict[str, Any], model: Model, dimensions: int | None = None) -> MRLEmbeddingFunction:
    function = MRLEmbeddingFunction.__new__(MRLEmbeddingFunction)
    function._profile = config["profile"]
    function._contract = IndexContract.from_dict(config["contract"])
    function._index = Index(model, dimensions, function._contract)
    return function
