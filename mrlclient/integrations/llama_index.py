"""LlamaIndex: `MRLEmbedding`, wherever an `embed_model` is wanted."""

from __future__ import annotations

from functools import partial
from typing import Any

from mrlclient._frames import discreet
from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._embedder import Model, embedder_of, missing

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
    from pydantic import ConfigDict, Field, PrivateAttr, ValidationInfo, computed_field, field_validator
except ModuleNotFoundError as error:
    raise missing(error, "llama-index") from None

#: Parts of `BaseEmbedding` that would do harm here, and what to use instead.
_REFUSED = {
    "embeddings_cache": "embeddings_cache knows a vector by its text alone, so that it hands out those of another "
    "model, of another width, and documents' for queries. Use the embedder's own: MRLEmbedding({'model': ..., "
    "'cache': 'vectors.db'}).",
    "rate_limiter": "rate_limiter counts batches, each of which may take several requests. Use the embedder's own: "
    "MRLEmbedding(Embedder(..., limits=Limits(requests_per_minute=...))).",
}


class MRLEmbedding(BaseEmbedding):  # type: ignore[misc]
    """Embeddings of any provider at any width of the model, for LlamaIndex: queries as queries, texts as documents.

    `to_dict`, `from_dict` and pickle carry the settings, never a key or a connection.

    Args:
        model: An address, a profile's values as from `Embedder.to_dict`, or an `Embedder`, which you close yourself. By
            default as `Embedder`.
        dimensions: The width of the embeddings; the native width by default. A profile or an `Embedder` has its own.
        embed_batch_size: Texts that LlamaIndex passes at once, up to 2048. The embedder splits them into as many
            requests as the provider needs. The `index` of an error counts within such a batch.
        num_workers: How many such batches run at once in an async call, at least 2: LlamaIndex takes 1 as no limit.
        callback_manager: LlamaIndex's own. It is not pickled.
        embeddings_cache: Refused, because it returns wrong vectors: use the embedder's `cache`.
        rate_limiter: Refused, because it cannot count requests: use the embedder's `limits`.

    Raises:
        ConfigurationError: If `embeddings_cache` or `rate_limiter` is given, now or later.
        MRLError: As `Embedder`.
    """

    model_config = ConfigDict(validate_assignment=True)

    # Both are said in `model` as well, or refused.
    model_name: str = Field(default="unknown", exclude=True, frozen=True)
    embeddings_cache: Any = Field(default=None, exclude=True)
    embed_batch_size: int = Field(default=2048, gt=0, le=2048)
    num_workers: int = Field(default=4, ge=2)

    _embedder: Embedder = PrivateAttr()

    @discreet
    def __init__(
        self,
        model: Model = None,
        *,
        dimensions: int | None = None,
        embed_batch_size: int = 2048,
        num_workers: int = 4,
        callback_manager: CallbackManager | None = None,
        embeddings_cache: None = None,
        rate_limiter: None = None,
    ) -> None:
        embedder = embedder_of(model, dimensions)
        super().__init__(
            model_name=embedder.model,
            embed_batch_size=embed_batch_size,
            num_workers=num_workers,
            callback_manager=CallbackManager([]) if callback_manager is None else callback_manager,
            embeddings_cache=embeddings_cache,
            rate_limiter=rate_limiter,
        )
        self._embedder = embedder

    @field_validator(*_REFUSED, mode="before")
    @classmethod
    def _refuse(cls, value: object, info: ValidationInfo) -> object:
        if value is not None:
            raise ConfigurationError(_REFUSED[str(info.field_name)])
        return value

    @property
    def embedder(self) -> Embedder:
        """The embedder. If it was made here, close it with `embedder.close()`."""
        return self._embedder

    @computed_field(repr=False)  # type: ignore[prop-decorator]
    @property
    def model(self) -> dict[str, Any]:
        """The profile of the embedder, which is what `to_dict` carries.

        Raises:
            ConfigurationError: If the embedder cannot be written as one: it holds a key, a client or a cache object.
        """
        return self._embedder.to_dict()

    def model_dump(self, **options: Any) -> dict[str, Any]:
        # Pydantic would wrap its error; `to_dict` gets here too.
        self._embedder.to_dict()
        dumped: dict[str, Any] = super().model_dump(**options)
        return dumped

    @classmethod
    def class_name(cls) -> str:
        return "MRLEmbedding"

    def to_payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = super().to_payload()
        return payload | {"dimensions": self._embedder.dimensions}

    @discreet
    def _get_query_embedding(self, query: str) -> list[float]:
        row: list[float] = self._embedder.embed_query(query).tolist()
        return row

    @discreet
    async def _aget_query_embedding(self, query: str) -> list[float]:
        row: list[float] = (await self._embedder.aembed_query(query)).tolist()
        return row

    @discreet
    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    @discreet
    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    @discreet
    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self._embedder.embed_documents(texts).tolist()
        return rows

    @discreet
    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = (await self._embedder.aembed_documents(texts)).tolist()
        return rows

    def __reduce__(self) -> tuple[Any, ...]:
        # Left to itself, LlamaIndex would drop an embedder that does not pickle, and say so in a log only.
        made = partial(type(self), embed_batch_size=self.embed_batch_size, num_workers=self.num_workers)
        return made, (self._embedder,)
