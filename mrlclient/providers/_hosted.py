"""What the hosted providers share: keys, the choice of transport, and the errors behind HTTP statuses."""

from __future__ import annotations

import email.utils
import json
import math
import os
import re
import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from mrlclient.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    InputError,
    MissingCredentialsError,
    MRLError,
    ProviderError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    ResponseContractError,
    ServerError,
)
from mrlclient.models import ModelSpec
from mrlclient.operations import Answer
from mrlclient.plan import Batch, Packing
from mrlclient.providers._credentials import Secret, check_base_url
from mrlclient.providers._exchange import Reply, Request, Transport
from mrlclient.providers._http import HTTPTransport
from mrlclient.providers._wire import decode_embeddings
from mrlclient.providers.base import Provider

#: The same request may succeed later.
_RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, *range(520, 525), 529})

#: Codes of a 429 that no waiting cures.
_PERMANENT: dict[str | None, type[ProviderError]] = {
    "insufficient_quota": QuotaError,
    "request_too_large": RateLimitError,
}

#: Bytes that one number of an answer takes at most, in a list of numbers; base64 takes 5.4.
_BYTES_PER_NUMBER = 24

#: Bytes of an answer around its numbers, for each vector.
_BYTES_PER_VECTOR = 256

#: Characters of a server's words that are quoted at most.
_MAX_QUOTE = 400

#: As many characters in a row that stand in a text too are taken for an echo of it; a shorter text, whole.
_ECHO, _SHORTEST_ECHO = 16, 4

_PLACE = re.compile(r"\[\d+\]| at index \d+")

_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|pa|al)-[\w*-]+")


class HostedProvider(Provider):
    """A provider behind HTTP, whose answers have the shape of OpenAI's.

    Attributes:
        key_variable: The environment variable that holds the key.
        base_url_variable: The environment variable that may hold another base URL, where the vendor has one.
        default_max_inputs: Texts in one request for a declared model that does not say.
    """

    key_variable: ClassVar[str]
    base_url_variable: ClassVar[str | None] = None
    default_max_inputs: ClassVar[int]

    def __init__(
        self, model: str | ModelSpec, *, api_key: str | None, base_url: str | None, timeout: float, client: Any
    ) -> None:
        super().__init__(model)
        if not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise ConfigurationError(f"timeout must be a positive number of seconds, not {timeout!r}.")
        if client is None:
            self._transport = self._http_transport(api_key, base_url, timeout)
        elif api_key is None and base_url is None:
            self._transport = self._sdk_transport(client, timeout)
        else:
            raise ConfigurationError("Pass client, or api_key and base_url: the client has its own.")

    @abstractmethod
    def _sdk_transport(self, client: Any, timeout: float) -> Transport:
        """The transport over the vendor's own client."""

    def _http_transport(self, api_key: str | None, base_url: str | None, timeout: float) -> Transport:
        if api_key is None and base_url is not None:
            # A key belongs to its origin: the vendor's is not carried to another.
            raise MissingCredentialsError(
                f"base_url is given without its key. Pass api_key too: {self.key_variable} is not sent to another host."
            )
        if api_key is None:
            key = Secret(os.environ.get(self.key_variable, "").strip())
            if not key.reveal():
                raise MissingCredentialsError(
                    f"No key for {self.name}. Set {self.key_variable}, or pass api_key=.", variable=self.key_variable
                )
        elif isinstance(api_key, str):
            key = Secret(api_key)
        else:
            raise ConfigurationError(f"api_key must be a string, not {type(api_key).__name__}.")
        if not key.is_sendable():
            raise MissingCredentialsError(
                f"The key for {self.name} is empty, or holds blanks, control characters or others outside ASCII.",
                variable=self.key_variable,
            )
        if base_url is None and self.base_url_variable is not None:
            # As with the vendor's own client, it holds for a key given in code too.
            base_url = os.environ.get(self.base_url_variable, "").strip() or None
        url = check_base_url(self._default_base_url(key.reveal()) if base_url is None else base_url) + "/embeddings"
        return HTTPTransport(url, key, self.name, timeout)

    @abstractmethod
    def _default_base_url(self, api_key: str) -> str:
        """The vendor's base URL for this key."""

    @abstractmethod
    def _fields(self, batch: Batch) -> dict[str, Any]:
        """The body's fields beyond `model`, `input` and `encoding_format`."""

    @abstractmethod
    def _error_details(self, body: Mapping[str, Any]) -> tuple[str, str | None]:
        """The message and the code in an error's body."""

    def _refused_text(self, message: str) -> int | None:
        """Which text of the batch an error's message refuses, if it names one."""
        return None

    @property
    def identity(self) -> tuple[str, ...]:
        return (self._transport.origin,)

    @property
    def packing(self) -> Packing:
        return Packing(self.spec.max_inputs or self.default_max_inputs, self.spec.max_request_tokens)

    def encode(self, batch: Batch) -> Request:
        body = {"model": self.spec.name, "input": list(batch.texts), "encoding_format": "base64"}
        # A server may ignore both the width and base64: the full width in digits must still fit.
        vector = self.spec.native_dimensions * _BYTES_PER_NUMBER + _BYTES_PER_VECTOR
        return Request(body | self._fields(batch), 65_536 + len(batch.texts) * vector)

    def send(self, request: Request) -> Reply:
        return self._transport.send(request)

    async def asend(self, request: Request) -> Reply:
        return await self._transport.asend(request)

    def translate(self, failure: Exception) -> MRLError:
        return self._transport.translate(failure)

    def decode(self, reply: Reply, batch: Batch) -> Answer:
        if reply.status != 200:
            raise self._error(reply, batch)
        return decode_embeddings(reply.body, len(batch.texts), self.name)

    def _error(self, reply: Reply, batch: Batch) -> MRLError:
        """Our error for a reply that is not 200."""
        said, code = self._read_error(reply)
        index = self._refused_text(said) if reply.status == 400 else None
        if index is not None and index < len(batch.texts):
            # The server counts within the batch; the caller's own index is put before.
            said = _PLACE.sub("", said)
            return InputError(f"{self.name} refused it{_quoted(said, batch)}", index=index)
        status = reply.status
        wait = _retry_after(reply.headers)
        kind, retryable = _classify(status, code)
        retryable = retryable and reply.headers.get("x-should-retry") != "false"
        message = f"{self.name} answered {status}{_quoted(said, batch)}"
        if wait is not None and retryable:
            message += f" (it asks to wait {wait:g} s)"
        return kind(
            message,
            provider=self.name,
            status=status,
            code=code,
            request_id=reply.headers.get("x-request-id"),
            retryable=retryable,
            retry_after=wait,
        )

    def _read_error(self, reply: Reply) -> tuple[str, str | None]:
        body: Any = reply.body
        if isinstance(body, bytes):
            try:
                body = json.loads(body)
            except (ValueError, RecursionError):
                return "", None
        return self._error_details(body) if isinstance(body, Mapping) else ("", None)

    def close(self) -> None:
        self._transport.close()

    async def aclose(self) -> None:
        await self._transport.aclose()


def _classify(status: int, code: str | None) -> tuple[type[ProviderError], bool]:
    """Which error a status is, and whether it may pass."""
    retryable = status in _RETRYABLE
    if code in _PERMANENT:
        return _PERMANENT[code], False
    if status in (401, 403):
        return AuthenticationError, retryable
    if status == 408:
        return ProviderTimeoutError, retryable
    if status == 429:
        return RateLimitError, retryable
    if 400 <= status < 500:
        return BadRequestError, retryable
    if status >= 500:
        return ServerError, retryable
    if 300 <= status < 400:
        # Never followed: the key and the texts would go to whatever host it names.
        return BadRequestError, False
    return ResponseContractError, True


def _quoted(message: str, batch: Batch) -> str:
    """A server's words, cut to a line, without keys; nothing at all where they may echo a text."""
    line = _LOOKS_LIKE_A_KEY.sub("…", " ".join(message.split()))
    if len(line) > _MAX_QUOTE:
        line = line[:_MAX_QUOTE] + "…"
    texts = [" ".join(text.split()) for text in batch.texts]
    # A server may shorten a text, or escape it as JSON does, so every stretch of its words is looked for.
    haystack = "\n".join([*texts, *(json.dumps(text) for text in texts)])
    stretches = {line[i : i + _ECHO] for i in range(len(line) - _ECHO + 1)}
    echoed = any(stretch in haystack for stretch in stretches) or any(
        text in line for text in texts if _SHORTEST_ECHO <= len(text) < _ECHO
    )
    return f": {line}" if line and not echoed else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, else seconds, else an HTTP date; nonsense is ignored."""
    seconds = _number(headers.get("retry-after-ms")) / 1000.0
    if not seconds > 0:
        seconds = _number(headers.get("retry-after"))
    if not seconds > 0:
        # By the server's own clock, where it says what that is: this machine's may be wrong.
        now = _date(headers.get("date"))
        seconds = _date(headers.get("retry-after")) - (time.time() if math.isnan(now) else now)
    return seconds if 0 < seconds < math.inf else None


def _number(value: str | None) -> float:
    try:
        # Python would read 1_0 as ten.
        return math.nan if value is None or "_" in value else float(value)
    except ValueError:
        return math.nan


def _date(value: str | None) -> float:
    try:
        return email.utils.parsedate_to_datetime(value or "").timestamp()
    except (ValueError, OverflowError, OSError):
        # The last two for years that a clock cannot hold.
        return math.nan
