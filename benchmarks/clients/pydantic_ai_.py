"""Pydantic AI's embedder over OpenAI's client. The vectors come as lists of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_ai import Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.providers.openai import OpenAIProvider

from benchmarks.clients import KEY, Client, Settings, trust


class _PydanticAI:
    def __init__(self, settings: Settings) -> None:
        trust(settings)
        provider = OpenAIProvider(api_key=KEY, base_url=settings.url)
        self._embedder = Embedder(OpenAIEmbeddingModel(settings.model, provider=provider))

    def bulk(self, texts: list[str]) -> Sequence[Any]:
        return self._embedder.embed_documents_sync(texts).embeddings

    def one(self, text: str) -> Sequence[float]:
        return self._embedder.embed_query_sync(text).embeddings[0]


def make(settings: Settings) -> Client:
    """Its `Embedder`."""
    return _PydanticAI(settings)
