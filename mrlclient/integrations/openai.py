"""A stand-in for the `openai` client: code that was written against it runs on any provider."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import httpx2

from mrlclient._frames import discreet
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._embedder import Model, missing
from mrlclient.models import InputType

try:
    import openai
    from openai import Omit, not_given, omit
    from openai.resources import AsyncEmbeddings, Embeddings
except ModuleNotFoundError as error:
    raise missing(error, "openai") from None

# These need `openai` too.
from mrlclient.integrations._openai_calls import BASE_URL, Calls, as_response, translated

if TYPE_CHECKING:
    from openai import NotGiven
    from openai.types import CreateEmbeddingResponse


class MRLOpenAI(openai.OpenAI):
    """An `openai.OpenAI` whose `embeddings.create` is answered by an `Embedder`. The client itself sends nothing.

    The name in `model=` is one of `models`, or an address such as `"voyage:voyage-4"`, whose embedder is made at its
    first use. Callers that cannot pass `dimensions` put the width into the name: `"voyage:voyage-4@256"`.

    Answers have the types of `openai`. `response.model` is the address of the model that was asked, and `usage` is None
    if the provider does not count tokens. Every error is both an `MRLError` and an `openai.OpenAIError`: a refused key
    is an `mrlclient.AuthenticationError` and an `openai.AuthenticationError`.

    Token ids instead of texts are refused. So are `user`, `timeout`, `extra_headers` and `extra_query`, because they
    would be lost, and every method but `embeddings.create`. `with_options` is refused too: the embedder has its own
    retries and deadline.

    Args:
        models: The names that callers use, and what they stand for: an address, a profile's values, or an embedder,
            which you close yourself.
        input_type: The role of the texts, `"query"` or `"document"`, unless a call sets it by
            `extra_body={"input_type": ...}`. By default the model's default.

    Raises:
        MRLError: As `Embedder`; so does `embeddings.create`.
    """

    @discreet
    def __init__(self, models: Mapping[str, Model] | None = None, *, input_type: InputType | None = None) -> None:
        self._calls = Calls(models, input_type)
        # Nothing is sent by it; one of the client's own making would load certificates.
        unused = httpx2.Client(transport=httpx2.BaseTransport(), trust_env=False)
        super().__init__(api_key="unused", base_url=BASE_URL, max_retries=0, http_client=unused)
        self._embeddings = _Embeddings(self, self._calls)

    @property
    def embeddings(self) -> Embeddings:
        return self._embeddings

    def request(self, *_: Any, **__: Any) -> NoReturn:
        raise _refused()

    def copy(self, *_: Any, **__: Any) -> NoReturn:
        raise _unchangeable()

    with_options = copy

    def close(self) -> None:
        for embedder in self._calls.made:
            embedder.close()
        super().close()


class MRLAsyncOpenAI(openai.AsyncOpenAI):
    """`MRLOpenAI` for the running event loop: an `openai.AsyncOpenAI` with the same arguments.

    Raises:
        MRLError: As `MRLOpenAI`.
    """

    @discreet
    def __init__(self, models: Mapping[str, Model] | None = None, *, input_type: InputType | None = None) -> None:
        self._calls = Calls(models, input_type)
        unused = httpx2.AsyncClient(transport=httpx2.AsyncBaseTransport(), trust_env=False)
        super().__init__(api_key="unused", base_url=BASE_URL, max_retries=0, http_client=unused)
        self._embeddings = _AsyncEmbeddings(self, self._calls)

    @property
    def embeddings(self) -> AsyncEmbeddings:
        return self._embeddings

    async def request(self, *_: Any, **__: Any) -> NoReturn:
        raise _refused()

    def copy(self, *_: Any, **__: Any) -> NoReturn:
        raise _unchangeable()

    with_options = copy

    async def close(self) -> None:
        for embedder in self._calls.made:
            await embedder.aclose()
        await super().close()


class _Embeddings(Embeddings):
    def __init__(self, client: openai.OpenAI, calls: Calls) -> None:
        super().__init__(client)
        self._calls = calls

    @discreet
    def create(
        self,
        *,
        input: str | Iterable[str] | Iterable[int] | Iterable[Iterable[int]],  # noqa: A002  # the client's name
        model: str,
        dimensions: int | Omit | None = omit,
        encoding_format: Literal["float", "base64"] | Omit = omit,
        user: str | Omit = omit,
        extra_headers: Mapping[str, str | Omit] | None = None,
        extra_query: Mapping[str, object] | None = None,
        extra_body: object | None = None,
        timeout: float | httpx2.Timeout | NotGiven | None = not_given,
    ) -> CreateEmbeddingResponse:
        lost = {"user": user, "extra_headers": extra_headers, "extra_query": extra_query, "timeout": timeout}
        with translated():
            call = self._calls.read(input, model, dimensions, encoding_format, extra_body, lost)
            result = call.embedder.embed(
                call.texts, dimensions=call.dimensions, input_type=call.input_type, dtype="float32"
            )
        return as_response(result, call.as_base64)


class _AsyncEmbeddings(AsyncEmbeddings):
    def __init__(self, client: openai.AsyncOpenAI, calls: Calls) -> None:
        super().__init__(client)
        self._calls = calls

    @discreet
    async def create(
        self,
        *,
        input: str | Iterable[str] | Iterable[int] | Iterable[Iterable[int]],  # noqa: A002  # the client's name
        model: str,
        dimensions: int | Omit | None = omit,
        encoding_format: Literal["float", "base64"] | Omit = omit,
        user: str | Omit = omit,
        extra_headers: Mapping[str, str | Omit] | None = None,
        extra_query: Mapping[str, object] | None = None,
        extra_body: object | None = None,
        timeout: float | httpx2.Timeout | NotGiven | None = not_given,
    ) -> CreateEmbeddingResponse:
        lost = {"user": user, "extra_headers": extra_headers, "extra_query": extra_query, "timeout": timeout}
        with translated():
            call = self._calls.read(input, model, dimensions, encoding_format, extra_body, lost)
            result = await call.embedder.aembed(
                call.texts, dimensions=call.dimensions, input_type=call.input_type, dtype="float32"
            )
        return as_response(result, call.as_base64)


def _refused() -> ConfigurationError:
    return ConfigurationError("This client answers embeddings.create and nothing else. For the rest use openai's own.")


def _unchangeable() -> ConfigurationError:
    return ConfigurationError(
        "This client has no options to change: say retries and times where the embedder is made, and pass it in "
        "models={name: Embedder(..., max_attempts=..., deadline=...)}."
    )
