"""OpenAI's client. The vectors come as lists of numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import openai

from benchmarks.clients import KEY, Many, Settings, in_batches, trust


class _Sync:
    def __init__(self, settings: Settings) -> None:
        trust(settings)
        self._model, self._float = settings.model, settings.variant == "float"
        self._client = openai.OpenAI(api_key=KEY, base_url=settings.url)

    def bulk(self, texts: list[str]) -> list[list[float]]:
        if self._float:
            answer = self._client.embeddings.create(model=self._model, input=texts, encoding_format="float")
        else:
            answer = self._client.embeddings.create(model=self._model, input=texts)
        return [row.embedding for row in answer.data]

    def one(self, text: str) -> list[float]:
        return self.bulk([text])[0]


class _Async:
    def __init__(self, settings: Settings) -> None:
        trust(settings)
        self._settings = settings
        self._loop = asyncio.Runner()
        self._client = openai.AsyncOpenAI(api_key=KEY, base_url=settings.url)

    def bulk(self, texts: list[str]) -> list[list[float]]:
        return self._loop.run(self._embed(texts))

    def one(self, text: str) -> list[float]:
        return self.bulk([text])[0]

    def many(self, texts: list[str]) -> Sequence[Any]:
        return self._loop.run(self._many(texts))

    async def _embed(self, texts: list[str]) -> list[list[float]]:
        answer = await self._client.embeddings.create(model=self._settings.model, input=texts)
        return [row.embedding for row in answer.data]

    async def _many(self, texts: list[str]) -> Sequence[Any]:
        turns = asyncio.Semaphore(self._settings.concurrency)

        async def embed(batch: list[str]) -> list[list[float]]:
            async with turns:
                return await self._embed(batch)

        parts = await asyncio.gather(*map(embed, in_batches(texts, self._settings.batch)))
        return [row for part in parts for row in part]


def make(settings: Settings) -> Any:
    """`OpenAI` or `AsyncOpenAI`."""
    client: Many | _Sync = _Async(settings) if settings.variant == "async" else _Sync(settings)
    return client
