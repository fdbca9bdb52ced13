"""An embedding model for Pydantic AI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import anyio.to_thread

from mrlclient._frames import discreet
from mrlclient.dimensions import check_width
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._embedder import Model, embedder_of, missing
from mrlclient.providers.base import Provider
from mrlclient.result import Usage

try:
    from pydantic_ai.embeddings import EmbeddingModel, EmbeddingResult, EmbeddingSettings
    from pydantic_ai.embeddings.result import EmbedInputType
    from pydantic_ai.models import check_allow_model_requests
    from pydantic_ai.usage import RequestUsage
except ModuleNotFoundError as error:
    raise missing(error, "pydantic-ai") from None


class MRLEmbeddingModel(EmbeddingModel):  # type: ignore[misc]
    """An `Embedder` as Pydantic AI's `EmbeddingModel`, for `pydantic_ai.Embedder(MRLEmbeddingModel(...))`.

    The setting `dimensions` is the width of a call. The setting `truncate` must agree with the embedder. Any other
    setting is an error, because it would be lost. Tokens and price are in `usage`; who answered is in
    `provider_details`.

    Args:
        model: An address, a profile's values, or an embedder, which you close yourself. By default the address in
            `MRLCLIENT_MODEL`, else the embedded default.
        dimensions: The width of the embeddings. A profile or an embedder has its own, so leave it out with these.
        settings: Default settings of each call.

    Attributes:
        embedder: The embedder. If it was made here, close it with `model.embedder.close()`.

    Raises:
        MRLError: As `Embedder`; so does `embed`.
        ConfigurationError: If a setting cannot be honoured.
        DimensionsError: If the model cannot give the width in the settings.
    """

    @discreet
    def __init__(
        self, model: Model = None, *, dimensions: int | None = None, settings: EmbeddingSettings | None = None
    ) -> None:
        self.embedder = embedder_of(model, dimensions)
        self._check_settings(settings or {})
        super().__init__(settings=settings)

    @property
    def model_name(self) -> str:
        return self.embedder.spec.name

    @property
    def system(self) -> str:
        return self.embedder.spec.provider

    @property
    def base_url(self) -> str | None:
        return self._provider.origin

    @discreet
    async def embed(
        self, inputs: str | Sequence[str], *, input_type: EmbedInputType, settings: EmbeddingSettings | None = None
    ) -> EmbeddingResult:
        if self.base_url is not None:
            check_allow_model_requests()
        texts, wanted = self.prepare_embed(inputs, settings)
        self._check_settings(wanted)
        result = await self.embedder.aembed(
            texts, input_type=input_type, dimensions=wanted.get("dimensions"), dtype="float32"
        )
        return EmbeddingResult(
            result.embeddings.tolist(),
            inputs=texts,
            input_type=input_type,
            model_name=self.model_name,
            provider_name=self.system,
            usage=_usage(result.usage),
            provider_details={
                "answered_by": dict(result.answered_by),
                "reduction": result.reduction,
                "notes": list(result.notes),
            },
        )

    async def max_input_tokens(self) -> int | None:
        return self.embedder.spec.max_input_tokens

    @discreet
    async def count_tokens(self, text: str) -> int:
        if not self._provider.counts_tokens:
            raise NotImplementedError(f"{self.embedder.model} has no counter of tokens here.")
        return (await anyio.to_thread.run_sync(self._provider.count_tokens, [text]))[0]

    @property
    def _provider(self) -> Provider:
        provider = self.embedder._engine.documents.main.provider
        assert isinstance(provider, Provider)
        return provider

    def _check_settings(self, settings: Mapping[str, object]) -> None:
        unknown = sorted(set(settings) - {"dimensions", "truncate"})
        if unknown:
            raise ConfigurationError(
                f"MRLEmbeddingModel cannot honour the settings {', '.join(unknown)}. Leave them out; what a provider "
                "takes is said where its embedder is made."
            )
        if settings.get("dimensions") is not None:
            check_width(self.embedder.spec, settings["dimensions"])
        truncates = self.embedder._engine.truncate_input
        if settings.get("truncate", truncates) is not truncates:
            raise ConfigurationError(
                f"The setting truncate={settings['truncate']!r} contradicts the embedder. Say it there: "
                f"Embedder(..., truncate_input={not truncates})."
            )


def _usage(usage: Usage) -> RequestUsage:
    """What a call cost, in Pydantic AI's terms."""
    return RequestUsage(
        input_tokens=usage.tokens or 0,
        unmeasured_requests=int(usage.tokens is None),
        cost=None if usage.usd is None else Decimal(str(usage.usd)),
        details={"cached_texts": usage.cached_texts} if usage.cached_texts else {},
    )
