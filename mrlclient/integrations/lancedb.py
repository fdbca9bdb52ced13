"""`MRLEmbeddingFunction` for LanceDB: a table stores which embedder it belongs to, and refuses any other.

Import this module wherever such a table is opened: LanceDB finds the function by its name.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient._frames import discreet
from mrlclient.contract import IndexContract
from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._embedder import missing
from mrlclient.integrations._index import Index
from mrlclient.models import InputType

try:
    from lancedb.embeddings import TextEmbeddingFunction, register
    from pydantic import Field
except ModuleNotFoundError as error:
    raise missing(error, "lancedb") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MRLEmbeddingFunction"]

_VARIABLE = "$var:"


@register("mrlclient")
class MRLEmbeddingFunction(TextEmbeddingFunction):  # type: ignore[misc, unused-ignore]
    """Embeds the source column of a table as documents, and its search texts as queries.

    Make one with `create`. A table made with it stores the embedder's profile, which may name the variable of a key but
    never holds one, and the contract of the index, for which the provider is asked once. A table that is opened checks
    its embedder against the contract before the first vector. With `model="$var:NAME"` each process sets the model by
    `get_registry().set_var(NAME, ...)`: an address, a profile or an embedder.

    Attributes:
        model: An address such as `"openai:text-embedding-3-small"`, a profile's values, or an embedder, which you close
            yourself.
        dimensions: The width, if `model` is an address.
        contract: What the table holds, as `IndexContract.to_dict` gives it; the table fills it in.
        max_retries: Always 0: the embedder retries what can be retried, and LanceDB does not.
    """

    # No argument is dropped, and none is shown: it may be a key.
    model_config = {"extra": "forbid", "hide_input_in_errors": True}  # noqa: RUF012  pydantic's way

    model: Any = None
    dimensions: int | None = None
    contract: dict[str, Any] | None = Field(default=None, repr=False)
    max_retries: int = Field(default=0, ge=0, le=0)
    _index: Index

    @discreet
    def model_post_init(self, context: object) -> None:
        if self.contract is None:
            self._index = Index(self.model, self.dimensions)
            return
        # LanceDB makes the function anew for every call.
        try:
            model = self.model if isinstance(self.model, Embedder) else json.dumps(self.model)
        except TypeError:
            raise ConfigurationError("A model is an address, a profile of plain values or an Embedder.") from None
        self._index = _shared(model, self.dimensions, json.dumps(self.contract))

    @property
    def embedder(self) -> Embedder:
        """The embedder, once checked to belong to the table. If it was made here, close it with its `close`."""
        return self._index.embedder

    def ndims(self) -> int:
        return self._index.dimensions

    @discreet
    def generate_embeddings(self, texts: Any) -> list[NDArray[np.float32] | None]:
        return self._embed(texts, "document")

    compute_source_embeddings = generate_embeddings

    @discreet
    def compute_query_embeddings(self, query: Any) -> list[NDArray[np.float32] | None]:
        return self._embed(query, "query")

    # What the base does here wraps every error in a bare `Exception`, even where it retries nothing.
    compute_source_embeddings_with_retry = compute_source_embeddings
    compute_query_embeddings_with_retry = compute_query_embeddings

    def safe_model_dump(self) -> dict[str, Any]:
        """The arguments to make the function with again, as the table keeps them."""
        given: dict[str, Any] = super().safe_model_dump()
        if not any(isinstance(value, str) and value.startswith(_VARIABLE) for value in given.values()):
            given = {"model": self.embedder.to_dict()}
        return given | {"contract": self._index.contract.to_dict()}

    def _embed(self, texts: Any, input_type: InputType) -> list[NDArray[np.float32] | None]:
        """A vector for each text, and None for None."""
        taken = self.sanitize_input(texts)
        given = list(taken) if isinstance(taken, list | tuple | np.ndarray) else [taken]
        empty = [row for row, text in enumerate(given) if text is None]
        if len(empty) == len(given):
            return [None] * len(given)
        if empty:
            # In their places goes a text that stands there anyway, which is sent once: so an error has the right index.
            usable = (text for text in given if isinstance(text, str) and text.strip())
            filling = min(usable, key=len, default="nothing is sent, for there is no other text that may be")
            given = [filling if text is None else text for text in given]
        rows: list[NDArray[np.float32] | None] = [*self._index.embed(given, input_type)]
        for row in empty:
            rows[row] = None
        return rows


@lru_cache(maxsize=32)
def _shared(model: str | Embedder, dimensions: int | None, contract: str) -> Index:
    """The index of a table; one for all functions that are made of the same arguments, with one set of connections."""
    return Index(
        model if isinstance(model, Embedder) else json.loads(model),
        dimensions,
        IndexContract.from_json(contract),
    )
