"""Voyage's client. The vectors come as lists of numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import voyageai

from benchmarks.clients import KEY, Settings, in_batches, trust

_MODEL = "voyage-4"


class _Sync:
    def __init__(self, settings: Settings) -> None:
        trust(settings)
        self._width = settings.width
        self._client = voyageai.Client(KEY, base_url=settings.url)

    def bulk(self, texts: list[str]) -> list[Any]:
        return self._client.embed(texts, model=_MODEL, output_dimension=self._width).embeddings

    def one(self, text: str) -> list[float]:
        row: list[float] = self.bulk([text])[0]
        return row


class _Async:
    def __init__(self, settings: Settings) -> None:
        trust(settings)
        self._settings = settings
        self._loop = asyncio.Runner()
        self._client = voyageai.AsyncClient(KEY, base_url=settings.url)

    def bulk(self, texts: list[str]) -> list[Any]:
        return self._loop.run(self._embed(texts))

    def one(self, text: str) -> list[float]:
        row: list[float] = self.bulk([text])[0]
        return row

    def many(self, texts: list[str]) -> Sequence[Any]:
        return self._loop.run(self._many(texts))

    async def _embed(self, texts: list[str]) -> list[Any]:
        return (await self._client.embed(texts, model=_MODEL, output_dimension=self._settings.width)).embeddings

    async def _many(self, texts: list[str]) -> Sequence[Any]:
        turns = asyncio.Semaphore(self._settings.concurrency)

        async def embed(batch: list[str]) -> list[Any]:
            async with turns:
                return await self._embed(batch)

        parts = await asyncio.gather(*map(embed, in_batches(texts, self._settings.batch)))
        return [row for part in parts for row in part]


def make(settings: Settings) -> Any:
    """`Client` or `AsyncClient`."""
    return _Async(settings) if settings.variant == "async" else _Sync(settings)
