"""Sending through an official `openai` client that the user already has."""

from __future__ import annotations

from contextlib import aclosing, closing
from typing import Any

import anyio
import anyio.to_thread
import openai

from mrlclient._signals import raised_by_handler
from mrlclient.errors import ConfigurationError, ProviderConnectionError, ProviderError, ProviderTimeoutError
from mrlclient.limits import fingerprint_of
from mrlclient.providers._body import Body, collect
from mrlclient.providers._exchange import Reply, Request, shorter, timed_out
from mrlclient.providers._network import Deadline

#: The first is how the client's own `with_streaming_response` asks for an answer that nobody has read yet.
_HEADERS = {"X-Stainless-Raw-Response": "stream", "Accept-Encoding": "identity"}


class OpenAISDKTransport:
    """The transport over an `openai.OpenAI` or `openai.AsyncOpenAI` client, or one of Azure's.

    The client is asked for the stream of the answer, so that its slow decoding is not run, and so that a good answer is
    read here, within its bounds. The client itself reads an error's body, unpacks it, and knows no bound for either. A
    synchronous client's timeout counts each read anew until a good answer's body begins, and all through an error's.

    Args:
        client: The client.
        provider: The provider's name, for the errors.
        timeout: Seconds that one request may take.
    """

    def __init__(self, client: openai.OpenAI | openai.AsyncOpenAI, provider: str, timeout: float) -> None:
        if not isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
            raise ConfigurationError(
                f"client must be an openai.OpenAI or openai.AsyncOpenAI, or one of Azure's, not {type(client).__name__}"
            )
        # A copy that shares the caller's connections: only the flow retries.
        self.origin = str(client.base_url).rstrip("/")
        self.fingerprint = fingerprint_of(self.origin, client.api_key)
        self._client = client.with_options(max_retries=0)
        self._provider = provider
        self._timeout = timeout

    def send(self, request: Request, timeout: float | None = None) -> Reply:
        if isinstance(self._client, openai.AsyncOpenAI):
            raise ConfigurationError("This client is async. Use the async methods, or pass an openai.OpenAI.")
        self._check_open()
        seconds = shorter(self._timeout, timeout)
        deadline = Deadline(seconds)
        ended: list[Exception] = []
        try:
            answer: Any = self._client.post("/embeddings", cast_to=object, **_posted(request, seconds))
            with closing(answer.http_response) as response:
                body = Body(response.status_code, response.headers, request, self._provider)
                for chunk in response.iter_raw():
                    if body.add(chunk):
                        break
                    deadline.left()
                return body.reply()
        except openai.APIStatusError as error:
            return _reply(error.response)
        except TimeoutError as error:
            ended.append(error)
        raise raised_by_handler(ended.pop()) or timed_out(self._provider, seconds)

    async def asend(self, request: Request, timeout: float | None = None) -> Reply:
        if isinstance(self._client, openai.OpenAI):
            return await anyio.to_thread.run_sync(self.send, request, timeout)
        self._check_open()
        seconds = shorter(self._timeout, timeout)
        try:
            with anyio.fail_after(seconds):
                answer: Any = await self._client.post("/embeddings", cast_to=object, **_posted(request, seconds))
                async with aclosing(answer.http_response) as response:
                    body = Body(response.status_code, response.headers, request, self._provider)
                    await collect(response, response.aiter_raw(), body)
                    return body.reply()
        except openai.APIStatusError as error:
            return _reply(error.response)
        except TimeoutError:
            pass
        raise timed_out(self._provider, seconds)

    def translate(self, failure: Exception) -> ProviderError:
        name = self._provider
        if isinstance(failure, openai.APITimeoutError) or _is_a("TimeoutException", failure):
            return ProviderTimeoutError(f"{name} did not answer in time", provider=name, retryable=True)
        if isinstance(failure, openai.APIConnectionError) or _is_a("TransportError", failure):
            cause = failure.__cause__ if isinstance(failure, openai.APIConnectionError) else failure
            where = f"{name} at {self._client.base_url.netloc.decode()}"
            return ProviderConnectionError(f"{where}: {type(cause).__name__}", provider=name, retryable=True)
        return ProviderError(f"{name} failed: {type(failure).__name__}", provider=name)

    def close(self) -> None:
        """The client is the caller's to close."""

    async def aclose(self) -> None:
        """The client is the caller's to close."""

    def _check_open(self) -> None:
        if self._client.is_closed():
            raise ConfigurationError("The client is closed. Close it after the embedder, not before.")


def _posted(request: Request, seconds: float) -> dict[str, Any]:
    """The arguments of `post`; `embeddings.create` has none for redirects, by which texts would go to other hosts."""
    options = {"headers": _HEADERS, "timeout": seconds, "follow_redirects": False, "security": {"bearer_auth": True}}
    return {"body": dict(request.body), "options": options}


def _is_a(name: str, failure: Exception) -> bool:
    """Whether httpx2, or httpx, on which a caller may have built the client, has a class of that name for it."""
    return any(kind.__name__ == name for kind in type(failure).__mro__)


def _reply(response: Any) -> Reply:
    return Reply(response.status_code, response.headers, response.content)
