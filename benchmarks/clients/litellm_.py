"""LiteLLM's function. It asks for no format, and so gets lists of numbers."""

from __future__ import annotations

from typing import Any

import litellm

from benchmarks.clients import KEY, Client, Settings, trust


class _LiteLLM:
    def __init__(self, settings: Settings) -> None:
        trust(settings)
        self._settings = settings

    def bulk(self, texts: list[str]) -> list[Any]:
        model = f"openai/{self._settings.model}"
        answer = litellm.embedding(model, texts, api_key=KEY, api_base=self._settings.url)
        return [row["embedding"] for row in answer.data]

    def one(self, text: str) -> Any:
        return self.bulk([text])[0]


def make(settings: Settings) -> Client:
    """The function."""
    return _LiteLLM(settings)
