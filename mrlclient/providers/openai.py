"""OpenAI's embeddings API (openai/openai-openapi, CreateEmbeddingRequest)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from mrlclient.models import ModelSpec
from mrlclient.providers._credentials import hidden
from mrlclient.providers._openai_dialect import OpenAIDialect

if TYPE_CHECKING:
    import openai


class OpenAI(OpenAIDialect):
    """OpenAI's models. Query and document vectors of a text are the same: the API knows no input type.

    Args:
        model: A model of the catalogue, or a declared one.
        api_key: The key; by default `OPENAI_API_KEY`.
        api_key_env: Instead of the key, the environment variable that holds it.
        base_url: Another server that speaks this API; it needs its own key. By default `OPENAI_BASE_URL` where
            that is set, as with the official client.
        timeout: Seconds that one request may take, the body included.
        client: An official client to send through instead: `openai.OpenAI`, `AsyncOpenAI`, `AzureOpenAI` or
            `AsyncAzureOpenAI`. Its own retries are switched off; it stays open, and it is the caller's to close. A
            synchronous client serves the async methods too, through a thread.
        deployment: The name to send as the model's, where the server knows it under another, as Azure does.
        count_tokens: Counts the tokens of each of some texts exactly, so that texts that are too long are refused
            before any request. It is called from several threads at once, with texts that could be too long. By default
            `tiktoken` does, where it is installed and the model's vocabulary is on this disk; nothing is downloaded.

    Raises:
        UnknownModelError: If the catalogue does not hold the model.
        MissingCredentialsError: If there is no key.
        ConfigurationError: If the key is given twice, or `client` is not an official client or comes with a key or a
            URL.
    """

    name = "openai"
    key_variable: ClassVar[str | None] = "OPENAI_API_KEY"
    base_url_variable: ClassVar[str | None] = "OPENAI_BASE_URL"
    vendor_urls: ClassVar[tuple[str, ...]] = ("https://api.openai.com/v1",)
    default_max_inputs: ClassVar[int] = 2048
    truncates_input = False
    model_settings = frozenset({"deployment"})

    def __init__(
        self,
        model: str | ModelSpec,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        base_url: str | None = None,
        timeout: float = 60.0,
        client: openai.OpenAI | openai.AsyncOpenAI | None = None,
        deployment: str | None = None,
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
        self._served_name = deployment or self.spec.name
        self._settings["deployment"] = deployment

    @property
    def identity(self) -> tuple[str, ...]:
        return (*super().identity, self._served_name)

    def _default_base_url(self, api_key: str) -> str:
        return self.vendor_urls[0]
