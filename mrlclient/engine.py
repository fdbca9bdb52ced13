"""What an `Embedder` works with: it plans calls, runs them in either way, and lets go of everything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread

from mrlclient._warn import warn_user
from mrlclient.cached import Caching, cache_fields
from mrlclient.call import Call, OnError
from mrlclient.dimensions import Dimensions, resolve
from mrlclient.drivers import AsyncDriver, SyncDriver
from mrlclient.errors import ServerBehaviorWarning
from mrlclient.flow import embed
from mrlclient.models import InputType, Task
from mrlclient.operations import Flow, Policy, Speaker
from mrlclient.plan import make_plan, role_of
from mrlclient.result import EmbeddingResult
from mrlclient.telemetry import embedding_span
from mrlclient.wiring import widths_of

if TYPE_CHECKING:
    from mrlclient.cache.guarded import GuardedCache
    from mrlclient.endpoints import Route
    from mrlclient.watch import Watch


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

    def plan(
        self,
        texts: Iterable[str],
        dimensions: Dimensions,
        input_type: InputType | None,
        task: Task | None,
        on_error: OnError,
    ) -> Call:
        """A call, planned; nothing has been sent yet."""
        route = self.queries if input_type == "query" else self.documents
        specs = [endpoint.provider.spec for endpoint in route.endpoints]
        widths = self.widths if dimensions is None else widths_of(specs, dimensions, self.policy.on_narrow)
        for spec in specs[1:]:
            role_of(spec, input_type, task)
        plan = make_plan(
            specs[0],
            route.main.provider.packing,
            texts,
            resolve(specs[0], widths[0], fetch_native=self.fetch_native),
            input_type=input_type,
            task=task,
            truncate_input=self.truncate_input,
        )
        return Call(plan, route, self.policy, on_error)

    def run(self, call: Call) -> EmbeddingResult:
        """Runs a call in this thread."""
        return _told(self.perform(call, SyncDriver()))

    async def arun(self, call: Call) -> EmbeddingResult:
        """Runs a call in the running event loop."""
        return _told(await self.aperform(call, AsyncDriver()))

    def perform(self, call: Call, driver: SyncDriver) -> EmbeddingResult:
        """Runs a call, and warns of nothing."""
        if self.watch is not None:
            with self.watch.check(call.route) as check:
                if check is not None:
                    check.conclude(driver.run(check.flow()).embeddings)
        with self._observed(call) as flow:
            return driver.run(flow)

    async def aperform(self, call: Call, driver: AsyncDriver) -> EmbeddingResult:
        """As `perform`, in the running event loop."""
        if self.watch is not None:
            with self.watch.check(call.route) as check:
                if check is not None:
                    rows = (await driver.run(check.flow())).embeddings
                    await anyio.to_thread.run_sync(check.conclude, rows)
        with self._observed(call) as flow:
            return await driver.run(flow)

    @contextmanager
    def _observed(self, call: Call) -> Iterator[Flow[EmbeddingResult]]:
        """A call's flow, in a span around it."""
        plan, main = call.plan, call.route.main
        with embedding_span(
            plan.spec,
            dimensions=plan.resolution.dimensions,
            input_count=len(plan.rows),
            server_address=main.host,
            server_port=main.port,
            encoding_formats=main.provider.encoding_formats,
        ) as span:
            yield embed(call, self._caching(call))
            span.succeeded(
                tokens=call.usage().tokens,
                cached_texts=0 if call.cached is None else call.cached.texts,
                requests=len(call.asked),
                answered_by=call.sent[-1].model if call.sent else None,
            )

    def _caching(self, call: Call) -> Caching | None:
        if self.cache is None:
            return None
        return Caching(self.cache, self.cache.flights, cache_fields(call.plan, call.route.main.provider.identity))

    def close(self) -> None:
        """Lets go of connections and memory."""
        self._close_cache()
        for provider in self._providers():
            provider.close()

    async def aclose(self) -> None:
        """`close`, with the connections of the running event loop."""
        self._close_cache()
        for provider in self._providers():
            await provider.aclose()

    def _close_cache(self) -> None:
        if self.cache is not None and self.owns_cache:
            self.cache.close()

    def _providers(self) -> list[Speaker]:
        endpoints = (*self.documents.endpoints, *self.queries.endpoints)
        return list(dict.fromkeys(endpoint.provider for endpoint in endpoints))


def _told(result: EmbeddingResult) -> EmbeddingResult:
    for note in result.notes:
        warn_user(note, ServerBehaviorWarning)
    return result
