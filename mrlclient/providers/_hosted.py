"""What the hosted providers share: keys, the choice of transport, and the errors behind HTTP statuses."""

from __future__ import annotations

import json
import math
import os
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from mrlclient.errors import (
    ConfigurationError,
    InputError,
    MissingCredentialsError,
    ModelMismatchError,
    MRLError,
)
from mrlclient.limits import Quota, Window, parse_quota
from mrlclient.models import ModelSpec
from mrlclient.operations import Answer
from mrlclient.packing import Packing
from mrlclient.plan import Batch
from mrlclient.providers._counting import Counter, TokenCounter
from mrlclient.providers._credentials import NO_KEY, Secret, check_base_url
from mrlclient.providers._exchange import Reply, Request, Transport
from mrlclient.providers._http import HTTPTransport
from mrlclient.providers._quoting import Sent
from mrlclient.providers._refusals import classify, retry_after, scope_of
from mrlclient.providers._wire import decode_embeddings
from mrlclient.providers.base import Provider

#: Bytes that a number of an answer takes at most, on average over a vector: a sign, "0.", 17 or 18 digits, the comma
#: and a blank or two make 21 to 24 where a server ignores base64. In base64 it takes 5.34.
_BYTES_PER_NUMBER = 24

#: Bytes of an answer around its numbers, for each vector.
_BYTES_PER_VECTOR = 256

#: Bytes of texts in a request, and of vectors in its answer, at most: larger ones cost more memory than they save time.
#: 2,048 vectors of 1,536 dimensions fit exactly. No vendor says how many bytes a request may have.
_MAX_BODY = 1 << 24

_PLACE = re.compile(r"\[\d+\]| at index \d+")


class HostedProvider(Provider):
    """A provider behind HTTP, whose answers have the shape of OpenAI's.

    Attributes:
        key_variable: The environment variable that holds the key; None where a server may ask for no key.
        base_url_variable: The environment variable that may hold another base URL, where the vendor has one.
        vendor_urls: The vendor's own base URLs.
        default_max_inputs: Texts in one request for a declared model that does not say.
        refused_input: Finds in an error's message the place of the text that is refused.
    """

    key_variable: ClassVar[str | None]
    base_url_variable: ClassVar[str | None] = None
    encoding_formats = ("base64",)
    vendor_urls: ClassVar[tuple[str, ...]]
    default_max_inputs: ClassVar[int]
    refused_input: ClassVar[re.Pattern[str]]

    def __init__(
        self,
        model: str | ModelSpec,
        *,
        key: Secret | None,
        api_key_env: str | None,
        base_url: str | None,
        timeout: float,
        client: Any,
        count_tokens: TokenCounter | None,
    ) -> None:
        super().__init__(model)
        self._counter = Counter(count_tokens, self.spec.tokenizer)
        # The model's name as the server knows it.
        self._served_name = self.spec.name
        self._packing = Packing(
            self.spec.max_inputs or self.default_max_inputs,
            self.spec.max_request_tokens,
            estimated=True,
            max_request_bytes=_MAX_BODY,
            max_answer_bytes=_MAX_BODY,
        )
        if not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise ConfigurationError(f"timeout must be a positive number of seconds, not {timeout!r}.")
        if base_url is not None:
            check_base_url(base_url, has_key=(key, api_key_env, self.key_variable) != (None, None, None))
        if api_key_env is not None and (key is not None or not isinstance(api_key_env, str)):
            raise ConfigurationError("Pass api_key, or api_key_env with the name of an environment variable, not both.")
        given = {"api_key_env": api_key_env, "base_url": base_url, "timeout": timeout, "count_tokens": count_tokens}
        self._settings: dict[str, Any] = given
        self._kept_here = "client" if client is not None else "api_key" if key is not None else None
        if client is None:
            self._key = self._find_key(api_key_env, base_url) if key is None else key
            self._transport = self._http_transport(base_url, timeout)
        elif key is None and api_key_env is None and base_url is None:
            self._transport = self._sdk_transport(client, timeout)
            self._key = Secret(str(client.api_key or ""))
        else:
            raise ConfigurationError("Pass client, or a key and base_url: the client has its own.")

    @abstractmethod
    def _sdk_transport(self, client: Any, timeout: float) -> Transport:
        """The transport over the vendor's own client."""

    def _find_key(self, api_key_env: str | None, base_url: str | None) -> Secret:
        """The key out of the environment."""
        variable = api_key_env or self.key_variable
        if variable is None:
            return NO_KEY
        if api_key_env is None and base_url is not None:
            # A key belongs to its origin: the vendor's is not carried to another.
            raise MissingCredentialsError(
                f"base_url is given without its key. Pass api_key or api_key_env too: {self.key_variable} is not sent "
                "to another host."
            )
        key = Secret(os.environ.get(variable, "").strip())
        if not key.reveal():
            alternative = ", or pass api_key=" if api_key_env is None else ""
            raise MissingCredentialsError(f"No key for {self.name}. Set {variable}{alternative}.", variable=variable)
        return key

    def _http_transport(self, base_url: str | None, timeout: float) -> Transport:
        key, variable = self._key, self._settings["api_key_env"] or self.key_variable
        has_key = key is not NO_KEY
        if has_key and not key.is_sendable():
            raise MissingCredentialsError(
                f"The key for {self.name} is empty, or holds blanks, control characters or others outside ASCII.",
                variable=variable,
            )
        if base_url is None and self.base_url_variable is not None:
            # As with the vendor's own client, it holds for a key given in code too.
            base_url = os.environ.get(self.base_url_variable, "").strip() or None
        url = check_base_url(base_url or self._default_base_url(key.reveal()), has_key=has_key)
        return HTTPTransport(url + "/embeddings", key, self.name, timeout)

    @abstractmethod
    def _default_base_url(self, api_key: str) -> str:
        """The vendor's base URL for this key."""

    @abstractmethod
    def _fields(self, batch: Batch) -> dict[str, Any]:
        """The body's fields beyond `model`, `input` and `encoding_format`."""

    @abstractmethod
    def _error_details(self, body: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
        """The message, the code and the parameter at fault in an error's body."""

    def _advice(self, status: int, parameter: str | None) -> str:
        """What to do about a refusal, where that is known: a sentence, or nothing."""
        return ""

    @property
    def _key_places(self) -> str:
        """Where a key may be kept."""
        return (f"{self.key_variable}, or in " if self.key_variable else "") + "the variable that api_key_env= names"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._kept_here is not None:
            raise ConfigurationError(
                f"{type(self).__name__}(..., {self._kept_here}=) is not pickled: a key that was given in code does not "
                f"leave the process. Keep it in {self._key_places}, where every process finds it; or make the provider "
                "in the process that uses it."
            )
        return partial(type(self), **self._settings), (self.declared,)

    def settings(self) -> dict[str, Any]:
        given = self._kept_here or ("count_tokens" if self._settings["count_tokens"] is not None else None)
        if given is None:
            return {name: value for name, value in self._settings.items() if name != "count_tokens"}
        advice = {
            "api_key": f"Keep the key in {self._key_places}.",
            "client": "Say api_key_env= and base_url= instead.",
            "count_tokens": "Leave it out, or make the embedder in code.",
        }
        raise ConfigurationError(f"{type(self).__name__}(..., {given}=) cannot be written down. {advice[given]}")

    @property
    def identity(self) -> tuple[str, ...]:
        return (self.origin,)

    @property
    def origin(self) -> str:
        return self._transport.origin

    @property
    def account(self) -> tuple[str, ...]:
        return self.origin, self._transport.fingerprint, self._served_name

    @property
    def assumed_quota(self) -> Quota | None:
        spec = self.spec
        # The catalogue's limits are the vendor's: of another server nothing is known.
        if self.origin not in self.vendor_urls or (spec.requests_per_minute is None and spec.tokens_per_minute is None):
            return None
        return Quota(Window(limit=spec.requests_per_minute), Window(limit=spec.tokens_per_minute))

    @property
    def packing(self) -> Packing:
        return self._packing

    def encode(self, batch: Batch) -> Request:
        body = {"model": self._served_name, "input": list(batch.texts), "encoding_format": "base64"}
        # A server may ignore both the width and base64: the full width in digits must still fit. That is 4.5 times what
        # base64 takes at full width, and 100 KiB in all for one text of 1,536 dimensions.
        vector = self.spec.native_dimensions * _BYTES_PER_NUMBER + _BYTES_PER_VECTOR
        return Request(body | self._fields(batch), 65_536 + len(batch.texts) * vector)

    @property
    def counts_tokens(self) -> bool:  # type: ignore[override]
        return self._counter.is_there

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._counter(texts)

    def send(self, request: Request, timeout: float | None = None) -> Reply:
        return self._transport.send(request, timeout)

    async def asend(self, request: Request, timeout: float | None = None) -> Reply:
        return await self._transport.asend(request, timeout)

    def translate(self, failure: Exception) -> MRLError:
        return self._transport.translate(failure)

    def decode(self, reply: Reply, batch: Batch) -> Answer:
        if reply.status != 200:
            raise self._error(reply, batch)
        answer = decode_embeddings(reply.body, len(batch.texts), self.name, batch.out, batch.resolution.dtype)
        spec = self.spec
        if answer.model not in (None, self._served_name, spec.name, *spec.answers_as):
            name = self._sent(batch).word(answer.model)
            raise ModelMismatchError(
                f"{self.name} was asked for {self._served_name!r} and answered as another model"
                + (f", {name!r}" if name else "")
                + ". If these are one model, declare it: ModelSpec(..., answers_as=[...]).",
                provider=self.name,
                status=200,
            )
        return answer

    def quota(self, reply: Reply) -> Quota | None:
        return parse_quota(reply.headers)

    def _sent(self, batch: Batch) -> Sent:
        return Sent(batch.texts, self._key.reveal())

    def _error(self, reply: Reply, batch: Batch) -> MRLError:
        """Our error for a reply that is not 200."""
        said, code, parameter = self._read_error(reply)
        sent = self._sent(batch)
        refused = self.refused_input.search(said) if reply.status == 400 else None
        if refused and int(refused[1]) < len(batch.texts):
            # The server counts within the batch; the caller's own index is put before.
            said = _PLACE.sub("", said)
            return InputError(f"{self.name} refused it{sent.quoted(said)}", index=int(refused[1]))
        status = reply.status
        wait = retry_after(reply.headers)
        kind, retryable = classify(status, code)
        retryable = retryable and reply.headers.get("x-should-retry") != "false"
        message = f"{self.name} answered {status}{sent.quoted(said)}"
        if wait is not None and retryable:
            message += f" (it asks to wait {wait:g} s)"
        if advice := self._advice(status, parameter):
            message = f"{message.rstrip('.')}. {advice}"
        return kind(
            message,
            provider=self.name,
            status=status,
            code=sent.word(code),
            request_id=reply.headers.get("x-request-id"),
            retryable=retryable,
            retry_after=wait,
            scope=scope_of(status, code, parameter),
        )

    def _read_error(self, reply: Reply) -> tuple[str, str | None, str | None]:
        body: Any = reply.body
        if isinstance(body, bytes):
            try:
                body = json.loads(body)
            except (ValueError, RecursionError):
                return "", None, None
        return self._error_details(body) if isinstance(body, Mapping) else ("", None, None)

    def close(self) -> None:
        self._transport.close()

    async def aclose(self) -> None:
        await self._transport.aclose()
