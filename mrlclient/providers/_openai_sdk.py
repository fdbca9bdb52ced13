"""Sending through an official `openai` client that the user already has."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
import openai

from mrlclient.errors import ConfigurationError, ProviderConnectionError, ProviderError, ProviderTimeoutError
from mrlclient.providers._exchange import Reply, Request, shorter


class OpenAISDKTransport:
    """The transport over an `openai.OpenAI` or `openai.AsyncOpenAI` client, or one of Azure's.

    The client is asked for the raw answer, so that its slow decoding is not run and the answer is checked here. What it
    cannot guard: the size of a body, and the time that a dribbling body takes.
    """

    def __init__(self, client: openai.OpenAI | openai.AsyncOpenAI, timeout: float) -> None:
        if not isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
            raise ConfigurationError(
                f"client must be an openai.OpenAI or openai.AsyncOpenAI, or one of Azure's, not {type(client).__name__}"
            )
        # A copy that shares the caller's connections: only the flow retries.
        self.origin = str(client.base_url).rstrip("/")
        self._client = client.with_options(max_retries=0)
        self._timeout = timeout

    def send(self, request: Request, timeout: float | None = None) -> Reply:
        if isinstance(self._client, openai.AsyncOpenAI):
            raise ConfigurationError("This client is async. Use the async methods, or pass an openai.OpenAI.")
        seconds = shorter(self._timeout, timeout)
        try:
            raw = self._client.embeddings.with_raw_response.create(**request.body, timeout=seconds)
            return _reply(raw.http_response)
        except openai.APIStatusError as error:
            return _reply(error.response)

    async def asend(self, request: Request, timeout: float | None = None) -> Reply:
        if isinstance(self._client, openai.OpenAI):
            return await anyio.to_thread.run_sync(self.send, request, timeout)
        seconds = shorter(self._timeout, timeout)
        try:
            raw = await self._client.embeddings.with_raw_response.create(**request.body, timeout=seconds)
            return _reply(raw.http_response)
        except openai.APIStatusError as error:
            return _reply(error.response)

    def translate(self, failure: Exception) -> ProviderError:
        if isinstance(failure, openai.APITimeoutError):
            return ProviderTimeoutError("openai did not answer in time", provider="openai", retryable=True)
        if isinstance(failure, openai.APIConnectionError):
            cause = type(failure.__cause__).__name__
            return ProviderConnectionError(f"openai: {cause}", provider="openai", retryable=True)
        return ProviderError(f"openai failed: {type(failure).__name__}", provider="openai")

    def close(self) -> None:
        """The client is the caller's to close."""

    async def aclose(self) -> None:
        """The client is the caller's to close."""


def _reply(response: Any) -> Reply:
    return Reply(response.status_code, response.headers, response.content)
