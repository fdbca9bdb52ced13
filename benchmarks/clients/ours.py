"""mrlclient, from the checkout: the whole `Embedder`, with every check."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.clients import KEY, Settings, trust
from mrlclient import Embedder, Limits, ModelSpec, OpenAI


class _Ours:
    def __init__(self, settings: Settings) -> None:
        trust(settings)
        self._loop = asyncio.Runner() if settings.variant == "async" else None
        caches = {"memory": "memory:", "sqlite": f"sqlite:{settings.folder}/cache.sqlite"}
        self._embedder = Embedder(
            _provider(settings),
            dimensions=settings.width,
            on_narrow="allow",
            max_concurrency=settings.concurrency,
            # A server on this machine has no account whose limits could be known.
            limits=Limits(math.inf, math.inf),
            cache=caches.get(settings.variant),
        )

    def bulk(self, texts: list[str]) -> NDArray[np.float32]:
        if self._loop is not None:
            return self._loop.run(self._embedder.aembed(texts)).embeddings
        return self._embedder.embed(texts).embeddings

    many = bulk

    def one(self, text: str) -> NDArray[np.float32]:
        if self._loop is not None:
            return self._loop.run(self._embedder.aembed_query(text))
        return self._embedder.embed_query(text)

    def stream(self, texts: Iterable[str], size: int) -> Iterator[int]:
        """Rows of each chunk, as it comes."""
        for chunk in self._embedder.embed_iter(texts, chunk_size=size):
            yield len(chunk.embeddings)


def _provider(settings: Settings) -> OpenAI:
    spec = ModelSpec(
        provider="openai",
        name=settings.model,
        native_dimensions=max(settings.width, 1536),
        matryoshka=True,
        server_dimensions="any",
        max_inputs=settings.batch,
        max_input_tokens=8192,
        max_request_tokens=300_000,
        unit_length=True,
    )
    return OpenAI(spec, api_key=KEY, base_url=settings.url)


def make(settings: Settings) -> _Ours:
    """An `Embedder`."""
    return _Ours(settings)
