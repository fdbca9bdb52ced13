"""Sending through an official `voyageai` client that the user already has."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
import sniffio
import voyageai.error
from voyageai.api_resources import Embedding
from voyageai.client import Client
from voyageai.client_async import AsyncClient

from mrlclient.errors import (
    ConfigurationError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    ServerError,
)
from mrlclient.limits import fingerprint_of
from mrlclient.providers._exchange import Reply, Request, shorter, timed_out


class VoyageSDKTransport:
    """The transport over a `voyageai.Client` or `voyageai.AsyncClient`.

    It calls the resource below the client's `embed`, with the client's key and address: there base64 stays base64, so
    that no list of floats is built and the answer is checked here, and the client's own retries are not run. What it
    cannot guard: the size of a body, which the client also unpacks, and with a `Client` the time that a dribbling
    answer takes, because its timeout counts each read anew.
    """

    def __init__(self, client: Client | AsyncClient, timeout: float) -> None:
        if not isinstance(client, Client | AsyncClient):
            raise ConfigurationError(
                f"client must be a voyageai.Client or voyageai.AsyncClient, not {type(client).__name__}"
            )
        self._is_async = isinstance(client, AsyncClient)
        self._params = {name: value for name, value in client._params.items() if name != "request_timeout"}
        self._timeout = timeout
        self.origin = str(client._params["base_url"]).rstrip("/")
        self.fingerprint = fingerprint_of(self.origin, client.api_key or "")
        self._require_key = client._require_api_key
        self._create: Any = Embedding.create
        self._acreate: Any = Embedding.acreate

    def send(self, request: Request, timeout: float | None = None) -> Reply:
        if self._is_async:
            raise ConfigurationError("This client is async. Use the async methods, or pass a voyageai.Client.")
        self._require_key()
        seconds = shorter(self._timeout, timeout)
        try:
            return Reply(200, {}, self._create(**request.body, **self._params, request_timeout=seconds))
        except voyageai.error.VoyageError as error:
            return _reply(error)

    async def asend(self, request: Request, timeout: float | None = None) -> Reply:
        if not self._is_async:
            return await anyio.to_thread.run_sync(self.send, request, timeout)
        if sniffio.current_async_library() != "asyncio":
            raise ConfigurationError("voyageai.AsyncClient works under asyncio only. Pass a voyageai.Client.")
        self._require_key()
        seconds = shorter(self._timeout, timeout)
        try:
            with anyio.fail_after(seconds):
                return Reply(200, {}, await self._acreate(**request.body, **self._params, request_timeout=seconds))
        except voyageai.error.VoyageError as error:
            return _reply(error)
        except TimeoutError:
            pass
        raise timed_out("voyage", seconds)

    def translate(self, failure: Exception) -> ProviderError:
        if isinstance(failure, voyageai.error.Timeout):
            return ProviderTimeoutError("voyage did not answer in time", provider="voyage", retryable=True)
        if isinstance(failure, voyageai.error.APIConnectionError):
            return ProviderConnectionError("voyage could not be reached", provider="voyage", retryable=True)
        if isinstance(failure, AttributeError):
            # What voyageai 0.5.0 raises on the statuses that it does not know, such as 501 and 529.
            return ServerError(
                "voyage answered with a status that voyageai cannot read", provider="voyage", retryable=True
            )
        return ProviderError(f"voyage failed: {type(failure).__name__}", provider="voyage")

    def close(self) -> None:
        """The client is the caller's to close."""

    async def aclose(self) -> None:
        """The client is the caller's to close."""


def _reply(error: Any) -> Reply:
    """The answer that an error of voyageai was made of; raised again where there was none."""
    if error.http_status is None:
        raise error
    headers = {str(name).lower(): str(value) for name, value in dict(error.headers).items()}
    body = error.json_body if isinstance(error.json_body, dict) else str(error.http_body or "").encode()
    return Reply(error.http_status, headers, body)
