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
        query_model: Another model of the same `space` for texts that are embedded as queries: documents with a large
            model, queries with a small one. `fallback` stands in for it too. By default queries take `model`.
        endpoints: More of those who may answer, on a par with `model`: each request goes to the one that has the
            fewest under way.
        fallback: Who is asked, in this order, where all of those before fail. These and `endpoints` have to be of the
            space of `model`. One that fails again and again is left out for a while. `result.answered_by` says who
            answered.
        limits: How much may be asked of the account in a minute and at once. By default what the server says, else what
            the catalogue says of the vendor; embedders of one key and model share it.
        canary: Watches for a model that is changed behind its name: `Canary(path)`. When a check is due, its few texts
            are embedded before yours. It watches `model` and `query_model`, nobody else.
        dtype: The type of `result.quantized` where a call names none: `"float16"`, `"int8"`, `"uint8"`, `"binary"` or
            `"ubinary"`; with `"float32"` there is none. Everything else is float32 in any case, also in frameworks and
            on the command line.
        ranges: For int8 and uint8: what their codes stand for, from `mrlclient.quantize.calibrate`.
        quantization: Who makes `dtype` where a call does not say: `"client"`, of the floats that come; or `"server"`.
            See `embed`.
        max_attempts: Attempts at one request, the first included. Asking the next of several endpoints is none.
        max_concurrency: Requests of one call under way at once.
        deadline: Seconds that one request may take with all its attempts: its turn, the waits between, the answers.

    Raises:
        UnknownProviderError: If nobody offers the provider.
        UnknownModelError: If the catalogue does not hold the model.
        NotMatryoshkaError: If the model may not be cut to `dimensions`.
        DimensionsOutOfRangeError: If `dimensions` is no width of the model, or of another that may answer.
        IncompatibleSpaceError: If the vectors of those who may answer may not be compared.
        MissingCredentialsError: If a provider needs a key and there is none.
        MissingExtraError: If the cache, or what the limits are shared through, needs a package that is not installed.
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
        wiring.check_choice("truncate_input", truncate_input, (True, False))
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
        # The environment of another process may name another default, and lists may change where they came from.
        self._arguments |= {
            "model": specs[0] if model is None or isinstance(model, str) else model,
            "dimensions": list(map(int, dimensions)) if isinstance(dimensions, Sequence) else dimensions and widths[0],
            "endpoints": tuple(endpoints),
            "fallback": tuple(fallback),
        }
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
        """An embedder out of a profile: plain values, as JSON and TOML have them.

        Args:
            values: `model` is an address; beside it stand settings of its provider, such as `api_key_env`, `base_url`,
                `timeout` or `model_path`, and `spec`, a table of `ModelSpec` for a model that the catalogue does not
                hold. The other keys are the arguments of `Embedder`: `limits` and `canary` are tables; `query_model`
                and the items of `endpoints` and `fallback` are addresses, or tables with the same keys of a model.

        Raises:
            ConfigurationError: If a key is unknown, or a value wrong; all of them are told.
            MissingExtraError: If pydantic is not installed, which checks profiles.
            MRLError: As `Embedder`.
        """
        return cls(**arguments_of(values))

    @classmethod
    @discreet
    def from_config(cls, path: str | os.PathLike[str] | None = None, profile: str | None = None) -> Self:
        """An embedder out of a profile of `mrlclient.toml`, or of the table `tool.mrlclient` of `pyproject.toml`.

        `MRLCLIENT_MODEL` and `MRLCLIENT_DIMENSIONS` take the place of the profile's values. What stands beside a model
        that is replaced is left out where it belongs to that model, or to its provider and not to the other's.

        Args:
            path: The file. By default the one that `MRLCLIENT_CONFIG` names; else the nearest, from the working folder
                upwards; else `mrlclient/mrlclient.toml` in the user's configuration folder. Without any file, it is
                enough that `MRLCLIENT_MODEL` names a model.
            profile: The profile's name. By default the one that `MRLCLIENT_PROFILE` names; else the file's `default`;
                else the only one.

        Raises:
            ConfigurationError: If there is no such file or profile; or, if the profile cannot be used, with all that is
                wrong with the file, and the lines.
            MissingExtraError: If pydantic is not installed, which checks profiles.
            MRLError: As `Embedder`.
        """
        return cls(**arguments_of_file(path, profile))

    def to_dict(self) -> dict[str, Any]:
        """The shortest profile that `from_dict` makes an equal embedder of, in this folder or another.

        It holds plain values, and never a secret: a key is found again where it was found, in the environment.

        Raises:
            ConfigurationError: If an argument cannot be written down, such as a key that was given in code, a client or
                a cache that is an object.
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
        """Embeds texts; a text that stands several times is sent once.

        Args:
            texts: Any number of texts, none of them empty or blank.
            dimensions: Another width than the embedder's, or several: one request for the widest serves all of them
                through `result.at(d)`.
            input_type: The role of the texts. Where the model tells queries from documents, both sides of a search need
                theirs. None: what the model assumes by itself; `result.input_type` says what that was.
            task: Instead of a role, a task that the model knows: `"clustering"` or `"classification"`.
            dtype: The type of `result.quantized`, which holds the embeddings in fewer bytes beside
                `result.embeddings`: `"float16"`, `"int8"`, `"uint8"`, `"binary"` or `"ubinary"`. The embedder's by
                default; with `"float32"` there is none.
            ranges: For int8 and uint8, what their codes stand for; the embedder's by default. Without any, they are
                found with these texts, of which 100 different ones are needed then; `result.quantized.ranges` has
                them, for the calls to come.
            quantization: Who makes `dtype`: the embedder's choice by default. With `"client"` the floats come, and are
                made smaller here, whoever the provider is. With `"server"` the codes come, in about a fourth of the
                bytes or less, and the result holds nothing else. It is refused where `ModelSpec.server_dtypes` does not
                name the type, at widths that the server does not cut to, and with a cache, which keeps floats. Nobody
                says which numbers a server's int8 and uint8 stand for: they have a `result.space` of their own.
            on_error: What to do where the provider has refused some texts, or failed for them for good. With `"raise"`
                that is an error, whose `partial` holds the others; a failure that is no text's own ends the call at
                once. With `"return"` the result has all that could be had: `result.errors` names the others, and their
                rows are NaN. Where nothing could be had, it is an error in any case. A `dtype` but float32 has no NaN,
                and takes `"raise"` only.

        Returns:
            The result; `result.embeddings` is (n, d) float32, in the order of `texts`: unit rows, or NaN where
            `result.errors` says why. No texts give (0, d).

        Raises:
            InputError: If a text cannot be embedded; `index` says which.
            NotMatryoshkaError: If the model may not be cut to `dimensions`.
            DimensionsOutOfRangeError: If `dimensions` is no width of the model.
            ProviderError: If the provider failed or refused for good; `index` where that is about one text.
            DriftError: If the canary says that the model is no longer what it was.
            ConfigurationError: If the embedder is closed, the model has no such role or task, or `dtype` and `ranges`
                do not fit each other, the width or the texts.
        """
        return self._engine.run(self._plan(texts, dimensions, input_type, task, on_error, dtype, ranges, quantization))

    @discreet
    def embed_documents(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Embeds texts to be searched.

        Returns:
            (n, d) float32, C-contiguous, unit rows, in the order of `texts`.

        Raises:
            MRLError: As `embed`.
        """
        return self.embed(texts, input_type="document", dtype="float32").embeddings

    @discreet
    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embeds one text to search with.

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
        """Embeds any number of texts in constant memory: they are read as they are needed, a chunk at a time.

        At most `max_concurrency` requests are under way, and at most twice as many chunks are held; while nobody takes
        one, nothing more is read. `texts` is advanced in the thread that takes the chunks. A stream that is left early
        stops when it is collected, or by its `close()`.

        Args:
            texts: Any iterable of texts, none of them empty or blank.
            dimensions: As for `embed`.
            input_type: As for `embed`.
            task: As for `embed`.
            dtype: As for `embed`.
            ranges: As for `embed`; int8 and uint8 that are made here need them.
            quantization: As for `embed`.
            on_error: As for `embed`, chunk by chunk. With `"raise"` the chunks before the failure come first, then the
                error, whose `partial` is of its own chunk, and the stream is over. With `"return"` a chunk comes even
                if each of its texts was refused; a failure that is no text's own, such as a server that is down, ends
                the stream where it leaves a chunk with nothing.
            chunk_size: Texts in a chunk; the last may have fewer. A text that stands several times in one is sent once.
            ordered: Whether chunks come in the order of the texts, or as they are done; so do errors.
            progress: True for a bar on standard error, which takes the extra `cli`; or a function that is told how many
                texts are done, after each chunk.

        Returns:
            An iterator over `Chunk`, which tells the position of its first text, the texts and their result. An error
            that `texts` raises comes unchanged, after the chunks of what was read before.

        Raises:
            MRLError: As `embed`; `index` and messages count in the whole stream. Bad arguments are refused at once,
                the rest comes from the iterator.
            MissingExtraError: If a bar is wanted and `rich` is not installed.
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
        """`embed` for the running event loop, asyncio's or trio's: the same arguments and the same result.

        Raises:
            MRLError: As `embed`.
        """
        return await self._engine.arun(
            self._plan(texts, dimensions, input_type, task, on_error, dtype, ranges, quantization)
        )

    @discreet
    async def aembed_documents(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """`embed_documents` for the running event loop: (n, d) float32, C-contiguous, unit rows.

        Raises:
            MRLError: As `embed`.
        """
        return (await self.aembed(texts, input_type="document", dtype="float32")).embeddings

    @discreet
    async def aembed_query(self, text: str) -> NDArray[np.float32]:
        """`embed_query` for the running event loop: (d,) float32, unit length.

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
        """`embed_iter` for the running event loop: the same arguments, and the same chunks under `async for`.

        `texts` may be asynchronous too. It is advanced in the task that takes the chunks. A stream that is left early
        stops when it is collected, or by `await stream.aclose()`; one whose `__anext__` is cancelled is over.

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
        """What the vectors of an index are that this embedder fills; to be kept beside the index.

        It takes one request, past the cache: a few fixed texts are embedded as documents, so that the model is known
        again. Whoever opens the index later calls `contract.check(embedder)`.

        Args:
            dimensions: The width of the index; the embedder's by default, the widest of several.

        Raises:
            DimensionsError: If the model may not or cannot be cut to `dimensions`.
            ProviderError: If the provider failed or refused.
            ConfigurationError: If the embedder is closed.
        """
        width, main = self._contracted(dimensions)
        from mrlclient.contract import contract_of

        return contract_of(main.provider, width, self._engine.canary_rows(main, width))

    @discreet
    async def acontract(self, dimensions: int | None = None) -> IndexContract:
        """`contract` for the running event loop.

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
