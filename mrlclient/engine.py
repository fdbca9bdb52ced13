"""What an `Embedder` works with: it plans calls, runs them in either way, and lets go of everything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from mrlclient._warn import warn_user
from mrlclient.cached import Caching, First, cache_fields
from mrlclient.call import Call, OnError
from mrlclient.dimensions import Dimensions, Resolution, resolve
from mrlclient.drivers import AsyncDriver, SyncDriver
from mrlclient.errors import ServerBehaviorWarning
from mrlclient.flow import embed
from mrlclient.models import InputType, ModelSpec, Task
from mrlclient.operations import Flow, Policy, Speaker
from mrlclient.output_type import FLOATS, OutputType
from mrlclient.packing import Packing
from mrlclient.plan import make_plan, role_of
from mrlclient.quick import QuickLook
from mrlclient.result import EmbeddingResult
from mrlclient.telemetry import embedding_span, is_in_use
from mrlclient.wiring import check_codes, widths_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mrlclient._codes import DType
    from mrlclient.cache.guarded import GuardedCache
    from mrlclient.endpoints import Endpoint, Route
    from mrlclient.watch import Watch

_UNOBSERVED = nullcontext()


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """The parts, put together.

    Attributes:
        documents: Who may answer.
        queries: Who may answer for queries; the same route where there is no other.
        policy: How hard to try.
        widths: The widths of a call that names none, widest first.
        truncate_input: Whether over-long texts may be cut.
        fetch_native: Whether the full width is asked for whatever is wanted.
        cache: Where vectors are kept.
        owns_cache: Whether it is closed with the rest.
        watch: The canary.
    """

    documents: Route
    queries: Route
    policy: Policy
    widths: Sequence[int]
    truncate_input: bool
    fetch_native: bool
    cache: GuardedCache | None
    owns_cache: bool
    watch: Watch | None
    # What calls of a kind share is worked out once: it takes longer than to get one vector from a cache.
    _shared: dict[tuple[object, ...], tuple[Resolution, Packing]] = field(default_factory=dict, init=False)
    _fields: dict[tuple[object, ...], Sequence[str]] = field(default_factory=dict, init=False)
    _quick: list[QuickLook] = field(default_factory=list, init=False)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """All who may answer, for documents and for queries; who does for both stands twice."""
        return (*self.documents.endpoints, *self.queries.endpoints)

    @property
    def specs(self) -> Sequence[ModelSpec]:
        """Their models."""
        return [endpoint.provider.spec for endpoint in self.endpoints]

    def plan(
        self,
        texts: Iterable[str],
        dimensions: Dimensions,
        input_type: InputType | None,
        task: Task | None,
        on_error: OnError,
        output: OutputType = FLOATS,
    ) -> Call:
        """A call, planned; nothing has been sent yet."""
        route = self.queries if input_type == "query" else self.documents
        main, widths = route.main.provider, self.widths
        if dimensions is not None:
            widths = widths_of([each.provider.spec for each in route.endpoints], dimensions, self.policy.on_narrow)
        output.check(widths[0])
        if output.asked != "float32":
            check_codes(output, self.specs, widths, cached=self.cache is not None, fetch_native=self.fetch_native)
        resolution, packing = self._shared_by(route, widths[0], input_type, task, output.asked)
        plan = make_plan(
            main.spec,
            packing,
            texts,
            resolution,
            input_type=input_type,
            task=task,
            truncate_input=self.truncate_input,
        )
        return Call(plan, route, self.policy, on_error, output=output)

    def _shared_by(
        self, route: Route, width: int, input_type: InputType | None, task: Task | None, dtype: DType
    ) -> tuple[Resolution, Packing]:
        """How calls of this kind get their width, and how their batches are packed."""
        with suppress(KeyError, TypeError):  # what cannot be hashed is no role, and refused below
            return self._shared[width, input_type, task, dtype]
        for endpoint in route.endpoints:
            role_of(endpoint.provider.spec, input_type, task)
        spec = route.main.provider.spec
        resolution = resolve(spec, width, fetch_native=self.fetch_native, dtype=dtype)
        shared = self._shared[width, input_type, task, dtype] = resolution, route.main.provider.packing
        return shared

    @property
    def waits_for_cache(self) -> bool:
        """Whether a look into the cache may wait for a disk or a network."""
        return self.cache is not None and self.cache.blocking

    def quick_look(self, text: str) -> NDArray[np.float32] | First | None:
        """A query's row, where the cache has it and nobody watches each call; see `QuickLook.look`."""
        if self.cache is None or self.watch is not None or is_in_use():
            return None
        if not self._quick:
            call = self.plan((), None, "query", None, "raise")
            caching = self._caching(call)
            assert caching is not None
            self._quick.append(QuickLook(caching, call.plan))
        return self._quick[0].look(text)

    def run(self, call: Call, first: First | None = None) -> EmbeddingResult:
        """Runs a call in this thread; `first` is its first look into the cache, where that has been taken."""
        call.output.check_texts(len(call.plan.texts))
        return call.output.added_to(_told(self.perform(call, SyncDriver(), first)))

    async def arun(self, call: Call, first: First | None = None) -> EmbeddingResult:
        """As `run`, in the running event loop."""
        call.output.check_texts(len(call.plan.texts))
        return call.output.added_to(_told(await self.aperform(call, AsyncDriver(), first)))

    def perform(self, call: Call, driver: SyncDriver, first: First | None = None) -> EmbeddingResult:
        """Runs a call, and warns of nothing."""
        if self.watch is not None:
            with self.watch.check(call.route) as check:
                if check is not None:
                    check.conclude(driver.run(check.flow()).embeddings)
        with self._observed(call):
            return driver.run(embed(call, self._caching(call, first)))

    async def aperform(self, call: Call, driver: AsyncDriver, first: First | None = None) -> EmbeddingResult:
        """As `perform`, in the running event loop."""
        if self.watch is not None:
            with self.watch.check(call.route) as check:
                if check is not None:
                    rows = (await driver.run(check.flow())).embeddings
                    await anyio.to_thread.run_sync(check.conclude, rows)
        with self._observed(call):
            return await driver.run(embed(call, self._caching(call, first)))

    def canary_rows(self, endpoint: Endpoint, width: int) -> NDArray[np.float32]:
        """What an endpoint makes of the canary's texts, as documents of this width, whatever the cache has of them."""
        return _told(SyncDriver().run(self._canary(endpoint, width))).embeddings

    async def acanary_rows(self, endpoint: Endpoint, width: int) -> NDArray[np.float32]:
        """As `canary_rows`, in the running event loop."""
        return _told(await AsyncDriver().run(self._canary(endpoint, width))).embeddings

    def _canary(self, endpoint: Endpoint, width: int) -> Flow[EmbeddingResult]:
        resolution = resolve(endpoint.provider.spec, width, fetch_native=self.fetch_native)
        from mrlclient.watch import embed_canary

        return embed_canary(endpoint, self.policy, resolution)

    def _observed(self, call: Call) -> AbstractContextManager[None]:
        """A span around a call, where anybody looks."""
        return self._span(call) if is_in_use() else _UNOBSERVED

    @contextmanager
    def _span(self, call: Call) -> Iterator[None]:
        plan, main = call.plan, call.route.main
        with embedding_span(
            plan.spec,
            dimensions=plan.resolution.dimensions,
            input_count=len(plan.rows),
            server_address=main.host,
            server_port=main.port,
            encoding_formats=main.provider.encoding_formats,
        ) as span:
            yield
            span.succeeded(
                tokens=call.usage().tokens,
                cached_texts=0 if call.cached is None else call.cached.texts,
                requests=len(call.asked),
                answered_by=call.sent[-1].model if call.sent else None,
            )

    def _caching(self, call: Call, first: First | None = None) -> Caching | None:
        if self.cache is None:
            return None
        plan, main = call.plan, call.route.main
        kind = (main, plan.resolution.requested, plan.input_type, plan.task)
        fields = self._fields.get(kind)
        if fields is None:
            fields = self._fields[kind] = cache_fields(plan, main.provider.identity)
        return Caching(self.cache, self.cache.flights, fields, first)

    def close(self) -> None:
        """Lets go of connections and memory."""
        if self.cache is not None and self.owns_cache:
            self.cache.close()
        for provider in self._providers():
            provider.close()

    async def aclose(self) -> None:
        """`close`, with the connections of the running event loop."""
        if self.cache is not None and self.owns_cache:
            # A file is tidied up first, and may have to wait for another process.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.cache.close)
        for provider in self._providers():
            await provider.aclose()

    def _providers(self) -> list[Speaker]:
        return list(dict.fromkeys(endpoint.provider for endpoint in self.endpoints))


def _told(result: EmbeddingResult) -> EmbeddingResult:
    for note in result.notes:
        warn_user(note, ServerBehaviorWarning)
    return result
