"""The face: one `Embedder` for every provider."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from mrlclient import registry
from mrlclient._warn import warn_user
from mrlclient.cached import Caching, cache_fields
from mrlclient.config import default_model
from mrlclient.dimensions import Dimensions, OnNarrow, check_widths, resolve
from mrlclient.drivers import AsyncDriver, SyncDriver
from mrlclient.errors import ConfigurationError, ServerBehaviorWarning
from mrlclient.flow import embed
from mrlclient.models import InputType, ModelSpec, Task, is_width
from mrlclient.operations import Flow, Policy
from mrlclient.plan import Plan, make_plan
from mrlclient.providers.base import Provider
from mrlclient.result import EmbeddingResult, check_narrow
from mrlclient.retry import RetryPolicy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mrlclient.cache.base import Cache
    from mrlclient.cache.guarded import GuardedCache

#: What a provider is asked for on a miss.
Fetch = Literal["requested", "native"]


class Embedder:
    """Embeds texts with one model, at any dimension that the model allows.

    Threads and tasks may share one. Use it in `with` or `async with`, or call `close` or `aclose`, to let go of its
    connections; connections that belong to an event loop are closed with the loop in any case.

    Args:
        model: An address such as `"openai:text-embedding-3-large"`, a declared `ModelSpec`, or a provider such as
            `OpenAI(...)` with settings of its own, which the embedder closes with itself. By default the address in
            `MRLCLIENT_MODEL`, else the embedded default `wordllama:l2-supercat-256`, which needs no key and no network.
        dimensions: The width of the embeddings, or several; the native width by default.
        on_narrow: What to do about a width narrower than the model's authors evaluated: `"warn"`
            (`NarrowDimensionsWarning`), `"error"` or `"allow"`.
        truncate_input: Embed the beginning of an over-long text, where the provider can. By default such a text is an
            error.
        cache: Where vectors are kept, so that a text is paid for once: a path or `"sqlite:PATH"`, `"memory:"`,
            `"redis://HOST"` or `"valkey://HOST"`, or a `Cache`. Off by default. Any narrower width of a kept vector is
            served from it. A cache that fails is a miss and a `CacheWarning`.
        fetch: With `"native"` the full width is asked for whatever is wanted, so that the cache has every width of a
            text from then on. With `"requested"` only what is wanted.
        max_attempts: Attempts at one request, the first included.
        max_concurrency: Requests of one call under way at once.

    Raises:
        UnknownProviderError: If nobody offers the provider.
        UnknownModelError: If the catalogue does not hold the model.
        NotMatryoshkaError: If the model may not be cut to `dimensions`.
        DimensionsOutOfRangeError: If `dimensions` is no width of the model.
        MissingCredentialsError: If the provider needs a key and there is none.
        ConfigurationError: If another argument is out of range.
    """

    def __init__(
        self,
        model: str | ModelSpec | Provider | None = None,
        *,
        dimensions: Dimensions = None,
        on_narrow: OnNarrow = "warn",
        truncate_input: bool = False,
        cache: str | Path | Cache | None = None,
        fetch: Fetch = "requested",
        max_attempts: int = 5,
        max_concurrency: int = 4,
    ) -> None:
        # Taken as a whole, so that no argument can be forgotten where the embedder travels to another process.
        self._arguments = {name: value for name, value in locals().items() if name != "self"}
        if on_narrow not in get_args(OnNarrow):
            raise ConfigurationError(f"on_narrow must be 'error', 'warn' or 'allow', not {on_narrow!r}.")
        if fetch not in get_args(Fetch):
            raise ConfigurationError(f"fetch must be 'requested' or 'native', not {fetch!r}.")
        for name, value in (("max_attempts", max_attempts), ("max_concurrency", max_concurrency)):
            if not is_width(value):
                raise ConfigurationError(f"{name} must be a positive integer, not {value!r}.")
        spec = _spec(model)
        self._dimensions = _widths(spec, dimensions, on_narrow)
        self._arguments |= {"model": model if isinstance(model, Provider) else spec, "dimensions": self._dimensions}
        # Only now, so that a width that cannot be had is said before a key is missed.
        self._provider = model if isinstance(model, Provider) else registry.create(spec)
        if truncate_input and not self._provider.truncates_input:
            raise ConfigurationError(
                f"{spec.provider} does not cut over-long texts. Cut them yourself, and leave truncate_input out."
            )
        self._policy = Policy(RetryPolicy(max_attempts), max_concurrency, on_narrow)
        self._truncate_input = truncate_input
        self._fetch_native = fetch == "native"
        self._cache = None if cache is None else _guarded(cache)
        self._identity = () if cache is None else self._provider.identity
        # A cache that was given as an object is the caller's to close.
        self._owns_cache = isinstance(cache, str | Path)
        self._closed = False

    @property
    def model(self) -> str:
        """The model's address, `provider:name`."""
        return self.spec.address

    @property
    def spec(self) -> ModelSpec:
        """What is known of the model."""
        return self._provider.spec

    @property
    def dimensions(self) -> int:
        """The width of the embeddings; the widest of several."""
        return self._dimensions[0]

    def embed(
        self,
        texts: Iterable[str],
        *,
        dimensions: Dimensions = None,
        input_type: InputType | None = None,
        task: Task | None = None,
    ) -> EmbeddingResult:
        """Embeds texts; a text that stands several times is sent once.

        Args:
            texts: Any number of texts, none of them empty or blank.
            dimensions: Another width than the embedder's, or several: one request for the widest serves all of them
                through `result.at(d)`.
            input_type: The role of the texts. Where the model tells queries from documents, both sides of a search need
                theirs. None: what the model assumes by itself; `result.input_type` says what that was.
            task: Instead of a role, a task that the model knows: `"clustering"` or `"classification"`.

        Returns:
            The result; `result.embeddings` is (n, d) float32, unit rows, in the order of `texts`. No texts give (0, d).

        Raises:
            InputError: If a text cannot be embedded; `index` says which.
            NotMatryoshkaError: If the model may not be cut to `dimensions`.
            DimensionsOutOfRangeError: If `dimensions` is no width of the model.
            ProviderError: If the provider failed or refused for good.
            ConfigurationError: If the embedder is closed, or the model has no such role or task.
        """
        return self._told(SyncDriver(self._provider).run(self._flow(texts, dimensions, input_type, task)))

    def embed_documents(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Embeds texts to be searched.

        Returns:
            (n, d) float32, C-contiguous, unit rows, in the order of `texts`.

        Raises:
            MRLError: As `embed`.
        """
        return self.embed(texts, input_type="document").embeddings

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embeds one text to search with.

        Returns:
            (d,) float32, unit length.

        Raises:
            MRLError: As `embed`.
        """
        return self.embed([text], input_type="query")[0]

    async def aembed(
        self,
        texts: Iterable[str],
        *,
        dimensions: Dimensions = None,
        input_type: InputType | None = None,
        task: Task | None = None,
    ) -> EmbeddingResult:
        """`embed` for the running event loop, asyncio's or trio's: the same arguments and the same result.

        Raises:
            MRLError: As `embed`.
        """
        return self._told(await AsyncDriver(self._provider).run(self._flow(texts, dimensions, input_type, task)))

    async def aembed_documents(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """`embed_documents` for the running event loop: (n, d) float32, C-contiguous, unit rows.

        Raises:
            MRLError: As `embed`.
        """
        return (await self.aembed(texts, input_type="document")).embeddings

    async def aembed_query(self, text: str) -> NDArray[np.float32]:
        """`embed_query` for the running event loop: (d,) float32, unit length.

        Raises:
            MRLError: As `embed`.
        """
        return (await self.aembed([text], input_type="query"))[0]

    def close(self) -> None:
        """Lets go of connections and memory. The embedder cannot be used afterwards."""
        self._closed = True
        self._close_cache()
        self._provider.close()

    async def aclose(self) -> None:
        """`close`, with the connections of the running event loop."""
        self._closed = True
        self._close_cache()
        await self._provider.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> tuple[Any, ...]:
        # The settings travel, neither keys nor connections: on the other side a key is found where it was found here.
        from mrlclient.cache.address import portable

        cache = self._arguments["cache"]
        if isinstance(cache, str | Path):
            cache = portable(cache)
        return partial(type(self), **self._arguments | {"cache": cache}), ()

    def __copy__(self) -> Self:
        # Shared, as threads and tasks share it: there is nothing in it to change, and one set of connections to close.
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __repr__(self) -> str:
        if not hasattr(self, "_provider"):
            # The constructor failed; whoever prints its locals gets here.
            return "Embedder(...)"
        return f"Embedder({self.model!r}, dimensions={self.dimensions})"

    def _flow(
        self, texts: Iterable[str], dimensions: Dimensions, input_type: InputType | None, task: Task | None
    ) -> Flow[EmbeddingResult]:
        if self._closed:
            raise ConfigurationError("This embedder is closed. Make a new one.")
        widths = self._dimensions
        if dimensions is not None:
            widths = _widths(self.spec, dimensions, self._policy.on_narrow)
        plan = make_plan(
            self.spec,
            self._provider.packing,
            texts,
            resolve(self.spec, widths[0], fetch_native=self._fetch_native),
            input_type=input_type,
            task=task,
            truncate_input=self._truncate_input,
        )
        return embed(plan, self._provider, self._policy, self._caching(plan))

    def _caching(self, plan: Plan) -> Caching | None:
        if self._cache is None:
            return None
        return Caching(self._cache, self._cache.flights, cache_fields(plan, self._identity))

    def _close_cache(self) -> None:
        if self._cache is not None and self._owns_cache:
            self._cache.close()

    def _told(self, result: EmbeddingResult) -> EmbeddingResult:
        for note in result.notes:
            warn_user(note, ServerBehaviorWarning)
        return result


def _widths(spec: ModelSpec, dimensions: Dimensions, on_narrow: OnNarrow) -> list[int]:
    """The widths asked for, widest first, each one looked at."""
    widths = check_widths(spec, dimensions)
    for width in widths:
        check_narrow(spec, width, on_narrow)
    return widths


def _guarded(cache: str | Path | Cache) -> GuardedCache:
    from mrlclient.cache import open_cache
    from mrlclient.cache.guarded import GuardedCache

    return GuardedCache(open_cache(cache))


def _spec(model: str | ModelSpec | Provider | None) -> ModelSpec:
    if isinstance(model, Provider):
        return model.spec
    if isinstance(model, ModelSpec):
        return model
    if model is None or isinstance(model, str):
        return registry.find_spec(default_model() if model is None else model)
    raise ConfigurationError(
        f"model must be an address such as 'openai:text-embedding-3-small', a ModelSpec or a provider, "
        f"not {type(model).__name__}."
    )
