"""Voyage AI's embeddings API (docs.voyageai.com/reference/embeddings-api)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mrlclient.models import ModelSpec
from mrlclient.plan import Batch
from mrlclient.providers._credentials import hidden
from mrlclient.providers._exchange import Transport
from mrlclient.providers._hosted import HostedProvider

if TYPE_CHECKING:
    from voyageai.client import Client
    from voyageai.client_async import AsyncClient

_PARAMETER = re.compile(r"[Aa]rgument '(\w+)'")


class Voyage(HostedProvider):
    """Voyage's models. The server puts the prompt of the input type before each text.

    Args:
        model: A model of the catalogue, or a declared one.
        api_key: The key; by default `VOYAGE_API_KEY`. A key that starts with `al-` goes to MongoDB's host, as with
            Voyage's own client.
        api_key_env: Instead of the key, the environment variable that holds it.
        base_url: Another server that speaks this API. It needs its own key.
        timeout: Seconds that one request may take, the body included.
        client: An official client to send through instead: `voyageai.Client` or `voyageai.AsyncClient`. Its own
            retries and timeout are not used. A `Client` serves the async methods too, through a thread; an
            `AsyncClient` works under asyncio only.
        count_tokens: Counts the tokens of each of some texts exactly, so that texts that are too long are refused
            before any request. It is called from several threads at once, with texts that could be too long. By default
            `tokenizers` does, where it is installed and the model's tokenizer is in the hub's cache; nothing is
            downloaded.

    Raises:
        UnknownModelError: If the catalogue does not hold the model.
        MissingCredentialsError: If there is no key.
        ConfigurationError: If the key is given twice, or `client` is not an official client or comes with a key or a
            URL.
    """

    name = "voyage"
    key_variable: ClassVar[str | None] = "VOYAGE_API_KEY"
    vendor_urls: ClassVar[tuple[str, ...]] = ("https://api.voyageai.com/v1", "https://ai.mongodb.com/v1")
    default_max_inputs: ClassVar[int] = 1000
    refused_input = re.compile(r"example at index (\d+) in your batch")
    quantizes = True

    def __init__(
        self,
        model: str | ModelSpec,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        base_url: str | None = None,
        timeout: float = 60.0,
        client: Client | AsyncClient | None = None,
        count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None,
    ) -> None:
        key = hidden(api_key)
        # A frame shows its variables to whoever prints a traceback with them.
        del api_key
        super().__init__(
            model,
            key=key,
            api_key_env=api_key_env,
            base_url=base_url,
            timeout=timeout,
            client=client,
            count_tokens=count_tokens,
        )

    def _sdk_transport(self, client: Any, timeout: float) -> Transport:
        from mrlclient.providers._voyage_sdk import VoyageSDKTransport

        return VoyageSDKTransport(client, timeout)

    def _default_base_url(self, api_key: str) -> str:
        return self.vendor_urls[1 if api_key.startswith("al-") else 0]

    def _fields(self, batch: Batch) -> dict[str, Any]:
        # Left to itself the server cuts over-long texts without a word, so this is always said.
        fields: dict[str, Any] = {"truncation": batch.truncate_input}
        if batch.input_type is not None:
            fields["input_type"] = batch.input_type
        if batch.resolution.requested is not None:
            fields["output_dimension"] = batch.resolution.requested
        if batch.resolution.dtype != "float32":
            fields["output_dtype"] = batch.resolution.dtype
        return fields

    def _error_details(self, body: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
        code, detail = body.get("error_code"), str(body.get("detail") or "")
        parameter = _PARAMETER.search(detail)
        return detail, str(code) if code else None, parameter[1] if parameter else None
