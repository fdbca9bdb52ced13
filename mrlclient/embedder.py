"""The face: one `Embedder` for every provider.

More than 300 lines, for most of them are the reference of the public methods.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from mrlclient import wiring
from mrlclient._frames import discreet
from mrlclient.cached import First
from mrlclient.call import Call, OnError
from mrlclient.config import arguments_of, arguments_of_file, values_of
from mrlclient.dimensions import Dimensions, OnNarrow, check_width
from mrlclient.endpoints import Endpoint
from mrlclient.engine import Engine
from mrlclient.errors import ConfigurationError
from mrlclient.limits import Limits
from mrlclient.models import InputType, ModelSpec, Task
from mrlclient.operations import Policy
from mrlclient.output_type import OutputType
from mrlclient.result import EmbeddingResult
from mrlclient.retry import RetryPolicy
from mrlclient.wiring import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mrlclient._codes import Quantization
    from mrlclient.cache.base import Cache
    from mrlclient.canary import Canary
    from mrlclient.chunk import Chunk
    from mrlclient.contract import IndexContract
    from mrlclient.quantize import DType, Ranges
    from mrlclient.watch import Watch

# What not every process needs is imported where it is used: streams, canaries, contracts.

_ON_ERROR = get_args(OnError)

#: What a provider is asked for on a miss.
Fetch = Literal["requested", "native"]


class Embedder:
    """Embeds texts with one model, at any width that the model allows.

    Threads and tasks may share one. Use it with `with` or `async with`, or call `close` or `aclose`, to release its
    connections. Connections that belong to an event loop are closed with the loop in any case.

    Args:
        model: An address such as `"openai:text-embedding-3-large"`, a declared `ModelSpec`, or a provider such as
            `OpenAI(...)` with its own settings, which is closed with the embedder. By default the address in
            `MRLCLIENT_MODEL`, or else the default model `wordllama:l2-supercat-256`, which needs no key and no network.
        dimensions: The width of the embeddings, or several widths; by default the model's full width.
        on_narrow: What to do about a width narrower than the model's authors evaluated: `"warn"`
            (`NarrowDimensionsWarning`), `"error"` or `"allow"`.
        truncate_input: Embed only the beginning of a text that is too long, if the provider can. By default such a text
            is an error.
        cache: Where vectors are kept, so that you pay for a text once: a path or `"sqlite:PATH"`, `"memory:"`,
            `"redis://HOST"` or `"valkey://HOST"`, or a `Cache`. Off by default. A kept vector also serves every
            narrower width. A cache that fails counts as a miss, and gives a `CacheWarning`.
        fetch: With `"native"`, the full width is always requested, so that the cache then has every width of a text.
            With `"requested"`, only the widths you want.
        query_model: Another model of the same `space` for queries: embed documents with a large model, queries with a
            small one. `fallback` stands in for it too. By default queries use `model`.
        endpoints: Others that answer together with `model`: each request goes to the one that has the fewest under way.
        fallback: Others that are asked, in this order, each after all before it have failed. They and `endpoints` must
            be of the space of `model`. One that fails again and again is skipped for a while. `result.answered_by` says
            who answered.
        limits: The rate limits of the account. By default what the server reports, or else what the catalogue says of
            the vendor. Embedders with the same key and model share them.
        canary: Detects that a provider has changed a model behind its name: `Canary(path)`. When a check is due, its
            few texts are embedded before yours. It watches only `model` and `query_model`.
        dtype: The type of `result.quantized` if a call names none: `"float16"`, `"int8"`, `"uint8"`, `"binary"` or
            `"ubinary"`; with `"float32"` there is none. Everything else is always float32, also in frameworks and on
            the command line.
        ranges: For int8 and uint8: what their codes stand for, from `mrlclient.quantize.calibrate`.
        quantization: Who makes the codes if a call does not say: `"client"`, from the floats received; or `"server"`.
            See `embed`.
        max_attempts: Attempts per request, including the first. Asking the next of several endpoints does not count.
        max_concurrency: Requests of one call under way at once.
        deadline: Seconds that one request may take in all: waiting for its turn, its attempts, and the waits between.

    Raises:
        UnknownProviderError: If there is no such provider.
        UnknownModelError: If the model is not in the catalogue.
        NotMatryoshkaError: If the model must not be truncated to `dimensions`.
        DimensionsOutOfRangeError: If the model, or another that may answer, does not have that width.
        IncompatibleSpaceError: If the models that may answer are not of one space.
        MissingCredentialsError: If a provider needs a key and there is none.
        MissingExtraError: If the cache or `Limits(shared=...)` needs a package that is not installed.
        ConfigurationError: If another argument is out of range.
    """

    @discreet
    def __init__(
        self,
        model: Model | None = None,
        *,
        dimensions: Dimensions = None,
        on_narrow: OnNarrow = "warn",
        truncate_input: bool = False,
        cache: str | Path | Cache | None = None,
        fetch: Fetch = "requested",
        query_model: Model | None = None,
        endpoints: Sequence[Model] = (),
        fallback: Sequence[Model] = (),
        limits: Limits | None = None,
        canary: Canary | None = None,
        dtype: DType = "float32",
        ranges: Ranges | None = None,
        quantization: Quantization = "client",
        max_attempts: int = 5,
        max_concurrency: int = 4,
        deadline: float = 600.0,
    ) -> None:
        # Taken as a whole, so that no argument can be forgotten where the embedder travels to another process.
        self._arguments = {name: value for name, value in locals().items() if name != "self"}
        wiring.check_choice("on_narrow", on_narrow, get_args(OnNarrow))
        wiring.check_choice("fetch", fetch, get_args(Fetch))
        wiring.check_bounds(max_attempts=max_attempts, max_concurrency=max_concurrency, deadline=deadline)
        wiring.check_kinds(endpoints=endpoints, fallback=fallback, limits=limits, canary=canary)
        specs = [wiring.spec_of(each) for each in (model, *endpoints, *fallback)]
        if query_model is not None:
            specs.append(wiring.spec_of(query_model))
        wiring.check_space(specs)
        widths = wiring.widths_of(specs, dimensions, on_narrow)
        self._output = OutputType(dtype, ranges, quantization)
        self._output.check(widths[0])
        wiring.check_codes(self._output, specs, widths, cached=cache is not None, fetch_native=fetch == "native")
        # The environment of another process may name another default.
        self._arguments |= {"model": specs[0] if model is None or isinstance(model, str) else model}
        # Only now, so that a width that cannot be had is said before a key is missed.
        limits = Limits() if limits is None else limits
        policy = Policy(RetryPolicy(max_attempts), deadline, max_concurrency, on_narrow)
        documents, queries = wiring.make_routes(model, endpoints, fallback, query_model, truncate_input, limits)
        self._engine = Engine(
            documents=documents,
            queries=queries,
            policy=policy,
            widths=widths,
            truncate_input=truncate_input,
            fetch_native=fetch == "native",
            cache=None if cache is None else wiring.guarded(cache),
            owns_cache=isinstance(cache, str | Path),  # one that was given as an object is the caller's to close
            watch=None if canary is None else _watch(canary, policy),
        )
        self._closed = False

    @classmethod
    @discreet
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Makes an embedder from a profile: plain values, as in JSON or TOML.

        Args:
            values: `model` is an address. Beside it are the settings of its provider, such as `api_key_env`,
                `base_url`, `timeout` or `model_path`, and `spec`, a table of `ModelSpec` for a model that is not in the
                catalogue. The other keys are the arguments of `Embedder`: `limits` and `canary` are tables;
                `query_model` and the items of `endpoints` and `fallback` are addresses, or tables with the same keys
                for a model.

        Raises:
            ConfigurationError: If keys are unknown or values wrong; all of them are reported.
            MissingExtraError: If pydantic, which checks profiles, is not installed.
            MRLError: As `Embedder`.
        """
        return cls(**arguments_of(values))

    @classmethod
    @discreet
    def from_config(cls, path: str | os.PathLike[str] | None = None, profile: str | None = None) -> Self:
        """Makes an embedder from a profile in `mrlclient.toml`, or in the table `tool.mrlclient` of `pyproject.toml`.

        `MRLCLIENT_MODEL` and `MRLCLIENT_DIMENSIONS` replace the profile's values. When the model is replaced, settings
        that belong to the old model are left out, and so are those of its provider if the new one has another provider.

        Args:
            path: The file. By default the one in `MRLCLIENT_CONFIG`, or else the nearest from the working folder
                upwards, or else `mrlclient/mrlclient.toml` in the user's configuration folder. Without a file, a model
                in `MRLCLIENT_MODEL` is enough.
            profile: The profile's name. By default the one in `MRLCLIENT_PROFILE`, or else the file's `default`, or
                else the only one.

        Raises:
            ConfigurationError: If there is no such file or profile; or, if the profile cannot be used, with everything
                that is wrong, and the lines.
            MissingExtraError: If pydantic, which checks profiles, is not installed.
            MRLError: As `Embedder`.
        """
        return cls(**arguments_of_file(path, profile))

    def to_dict(self) -> dict[str, Any]:
        """Returns the embedder's settings: the shortest profile from which `from_dict` makes an equal embedder.

        It holds plain values that are valid in any folder, and never a secret: keys are read from the environment
        again.
        again.

        Raises:
            ConfigurationError: If an argument cannot be written down, such as a key, a client or a cache object passed
                in code.
        """
        return values_of(self._arguments, signature(Embedder).parameters)

    @property
    def model(self) -> str:
        """The model's address, `provider:name`."""
        return self.spec.address

    @property
    def spec(self) -> ModelSpec:
        """What is known of the model."""
        return self._engine.documents.main.provider.spec

    @property
    def dimensions(self) -> int:
        """The width of the embeddings; the widest of several."""
        return self._engine.widths[0]

    @property
    def widths(self) -> list[int]:
        """All widths of the embeddings, widest first."""
        return list(self._engine.widths)

    @discreet
    def embed(
        self,
        texts: Iterable[str],
        *,
        dimensions: Dimensions = None,
        input_type: InputType | None = None,
        task: Task | None = None,
        dtype: DType | None = None,
        ranges: Ranges | None = None,
        quantization: Quantization | None = None,
        on_error: OnError = "raise",
    ) -> EmbeddingResult:
        """Embeds texts. Repeated texts are sent once.

        Args:
            texts: Any number of texts, none of them empty or blank.
            dimensions: Another width than the embedder's, or several: one request for the widest serves all of them
                through `result.at(d)`.
            input_type: `"query"` or `"document"`. If the model tells them apart, give each side of a search its own.
                None: the model's default, which `result.input_type` tells.
            task: Instead of an input type, a task that the model knows: `"clustering"` or `"classification"`.
            dtype: The type of `result.quantized`, which holds the embeddings in fewer bytes beside `result.embeddings`:
                `"float16"`, `"int8"`, `"uint8"`, `"binary"` or `"ubinary"`. By default the embedder's; with `"float32"`
                there is none.
            ranges: For int8 and uint8, what their codes stand for; by default the embedder's. Without any, they are
                found from these texts, which must then be at least 100 different ones; pass `result.quantized.ranges`
                to later calls.
            quantization: Who makes the codes; by default the embedder's choice. With `"client"`, floats are received
                and quantised here, with any provider. With `"server"`, codes are received, in about a fourth of the
                bytes or less, and the result holds nothing else. This is refused if `ModelSpec.server_dtypes` does not
                name the type, at widths that the server does not offer, and with a cache, which keeps floats. The
                meaning of a server's int8 and uint8 is not documented, so they have a `result.space` of their own.
            on_error: What to do if the provider refuses some texts, or fails for them for good. With `"raise"`, the
                error's `partial` holds the others; a failure that concerns no single text ends the call at once. With
                `"return"`, the result has every vector there is: `result.errors` names the other texts, and their rows
                are NaN. If there is no vector at all, it is an error in any case. Only float32 has NaN: with another
                `dtype`, use `"raise"`.

        Returns:
            The result. `result.embeddings` is (n, d) float32, in the order of `texts`: unit rows, or NaN for the texts
            in `result.errors`. Without texts, (0, d).

        Raises:
            InputError: If a text cannot be embedded; `index` says which.
            NotMatryoshkaError: If the model must not be truncated to `dimensions`.
            DimensionsOutOfRangeError: If the model does not have that width.
            ProviderError: If the provider failed or refused for good; `index` if it concerns one text.
            DriftError: If the canary finds that the model has changed.
            ConfigurationError: If the embedder is closed, the model has no such input type or task, or `dtype` and
                `ranges` do not fit together, or do not fit the width or the texts.
        """
        return self._engine.run(self._plan(texts, dimensions, input_type, task, on_error, dtype, ranges, quantization))

    @discreet
    def embed_documents(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Embeds the texts that you search.

        Returns:
            (n, d) float32, C-contiguous, unit rows, in the order of `texts`.

        Raises:
            MRLError: As `embed`.
        """
        return self.embed(texts, input_type="document", dtype="float32").embeddings

    @discreet
    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embeds a text that you search with.

        Returns:
            (d,) float32, unit length.

        Raises:
            MRLError: As `embed`.
        """
        self._check_open()
        quick = self._engine.quick_look(text)
        if quick is None or isinstance(quick, First):
            return self._engine.run(self._plan([text], None, "query", None, "raise"), quick)[0]
        return quick

    @discreet
    def embed_iter(
        self,
        texts: Iterable[str],
        *,
        dimensions: Dimensions = None,
        input_type: InputType | None = None,
        task: Task | None = None,
        dtype: DType | None = None,
        ranges: Ranges | None = None,
        quantization: Quantization | None = None,
        on_error: OnError = "raise",
        chunk_size: int = 1024,
        ordered: bool = True,
        progress: bool | Callable[[int], object] = False,
    ) -> Iterator[Chunk]:
        """Embeds any number of texts in constant memory, reading them chunk by chunk as needed.

        At most `max_concurrency` requests are under way, and at most twice as many chunks are held; until you take one,
        nothing more is read. `texts` is advanced in the thread that takes the chunks. If you leave a stream early, it
        stops when it is collected, or with its `close()`.

        Args:
            texts: Any iterable of texts, none of them empty or blank.
            dimensions: As for `embed`.
            input_type: As for `embed`.
            task: As for `embed`.
            dtype: As for `embed`.
            ranges: As for `embed`; int8 and uint8 made here need them.
            quantization: As for `embed`.
            on_error: As for `embed`, chunk by chunk. With `"raise"`, you first get the chunks before the failure, then
                the error, whose `partial` is of its own chunk, and the stream is over. With `"return"`, you get a chunk
                even if each of its texts was refused; a failure that concerns no single text, such as a server that is
                down, ends the stream as soon as it leaves a chunk without any vector.
            chunk_size: Texts per chunk; the last may have fewer. A text repeated within a chunk is sent once.
            ordered: Whether chunks, and errors, come in the order of the texts, or as they are done.
            progress: True for a progress bar on standard error (extra `cli`); or a function that is called with the
                number of texts done after each chunk.

        Returns:
            An iterator over `Chunk`, which has the position of its first text, the texts and their result. An error
            raised by `texts` comes unchanged, after the chunks read before it.

        Raises:
            MRLError: As `embed`; `index` and messages count in the whole stream. Wrong arguments are refused at once,
                everything else is raised by the iterator.
            MissingExtraError: If you want a progress bar and `rich` is not installed.
        """
        from mrlclient.chunk import order
        from mrlclient.stream import Chunks

        call = self._plan((), dimensions, input_type, task, on_error, dtype, ranges, quantization)
        wanted = order(
            self._engine, call, self._check_open, texts, chunk_size=chunk_size, ordered=ordered, progress=progress
        )
        return Chunks(wanted, texts)

    @discreet
    async def aembed(
        self,
        texts: Iterable[str],
        *,
        dimensions: Dimensions = None,
        input_type: InputType | None = None,
        task: Task | None = None,
        dtype: DType | None = None,
        ranges: Ranges | None = None,
        quantization: Quantization | None = None,
        on_error: OnError = "raise",
    ) -> EmbeddingResult:
        """`embed` on the running event loop, asyncio or trio: the same arguments and the same result.

        Raises:
            MRLError: As `embed`.
        """
        return await self._engine.arun(
            self._plan(texts, dimensions, input_type, task, on_error, dtype, ranges, quantization)
        )

    @discreet
    async def aembed_documents(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """`embed_documents` on the running event loop: (n, d) float32, C-contiguous, unit rows.

        Raises:
            MRLError: As `embed`.
        """
        return (await self.aembed(texts, input_type="document", dtype="float32")).embeddings

    @discreet
    async def aembed_query(self, text: str) -> NDArray[np.float32]:
        """`embed_query` on the running event loop: (d,) float32, unit length.

        Raises:
            MRLError: As `embed`.
        """
        self._check_open()
        quick = None if self._engine.waits_for_cache else self._engine.quick_look(text)
        if quick is None or isinstance(quick, First):
            return (await self._engine.arun(self._plan([text], None, "query", None, "raise"), quick))[0]
        return quick

    @discreet
    def aembed_iter(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        dimensions: Dimensions = None,
        input_type: InputType | None = None,
        task: Task | None = None,
        dtype: DType | None = None,
        ranges: Ranges | None = None,
        quantization: Quantization | None = None,
        on_error: OnError = "raise",
        chunk_size: int = 1024,
        ordered: bool = True,
        progress: bool | Callable[[int], object] = False,
    ) -> AsyncIterator[Chunk]:
        """`embed_iter` on the running event loop: the same arguments, and the same chunks with `async for`.

        `texts` may be an async iterable too. It is advanced in the task that takes the chunks. If you leave a stream
        early, it stops when it is collected, or with `await stream.aclose()`. A stream whose `__anext__` is cancelled
        is over.

        Raises:
            MRLError: As `embed_iter`.
        """
        from mrlclient.chunk import order
        from mrlclient.stream import AsyncChunks

        call = self._plan((), dimensions, input_type, task, on_error, dtype, ranges, quantization)
        wanted = order(
            self._engine, call, self._check_open, texts, chunk_size=chunk_size, ordered=ordered, progress=progress
        )
        return AsyncChunks(wanted, texts)

    @discreet
    def contract(self, dimensions: int | None = None) -> IndexContract:
        """Describes the vectors of an index that this embedder fills; keep it beside the index.

        This sends one request, past the cache: a few fixed texts are embedded as documents, so that the model can be
        recognised. When you open the index later, call `contract.check(embedder)`.

        Args:
            dimensions: The width of the index; by default the embedder's, the widest of several.

        Raises:
            DimensionsError: If the model must not or cannot be truncated to `dimensions`.
            ProviderError: If the provider failed or refused.
            ConfigurationError: If the embedder is closed.
        """
        width, main = self._contracted(dimensions)
        from mrlclient.contract import contract_of

        return contract_of(main.provider, width, self._engine.canary_rows(main, width))

    @discreet
    async def acontract(self, dimensions: int | None = None) -> IndexContract:
        """`contract` on the running event loop.

        Raises:
            MRLError: As `contract`.
        """
        width, main = self._contracted(dimensions)
        from mrlclient.contract import contract_of

        return contract_of(main.provider, width, await self._engine.acanary_rows(main, width))

    def close(self) -> None:
        """Lets go of connections and memory. The embedder cannot be used afterwards."""
        self._closed = True
        self._engine.close()

    async def aclose(self) -> None:
        """`close`, with the connections of the running event loop."""
        self._closed = True
        await self._engine.aclose()

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
        return partial(type(self), **wiring.portable_arguments(self._arguments)), ()

    def __copy__(self) -> Self:
        # Shared, as threads and tasks share it: there is nothing in it to change, and one set of connections to close.
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __repr__(self) -> str:
        if not hasattr(self, "_engine"):
            # The constructor failed; whoever prints its locals gets here.
            return "Embedder(...)"
        return f"Embedder({self.model!r}, dimensions={self.dimensions})"

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError("This embedder is closed. Make a new one.")

    def _contracted(self, dimensions: int | None) -> tuple[int, Endpoint]:
        """The width of an index, and who fills it."""
        self._check_open()
        main = self._engine.documents.main
        if dimensions is None:
            return self.dimensions, main
        width = check_width(self.spec, dimensions)
        return wiring.widths_of(self._engine.specs, width, self._engine.policy.on_narrow)[0], main

    def _plan(
        self,
        texts: Iterable[str],
        dimensions: Dimensions,
        input_type: InputType | None,
        task: Task | None,
        on_error: OnError,
        dtype: DType | None = "float32",
        ranges: Ranges | None = None,
        quantization: Quantization | None = None,
    ) -> Call:
        self._check_open()
        wiring.check_choice("on_error", on_error, _ON_ERROR)
        output = self._output.override(dtype, ranges, quantization)
        output.check_errors(on_error)
        return self._engine.plan(texts, dimensions, input_type, task, on_error, output)


def _watch(canary: Canary, policy: Policy) -> Watch:
    from mrlclient.watch import Watch

    return Watch(canary, policy)
