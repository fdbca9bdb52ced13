"""Performing a flow's operations, with threads or with anyio: the only code that does.

The file has more than 300 lines because the two drivers do the same, and are read side by side.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from itertools import chain, islice
from typing import Any, TypeVar, assert_never

import anyio
import anyio.lowlevel
import anyio.to_thread

from mrlclient._places import AsyncPlace, Place
from mrlclient._signals import raised_by_handler
from mrlclient.operations import (
    CacheKeep,
    CacheLook,
    CountTokens,
    Flow,
    Gather,
    Join,
    Now,
    Operation,
    Reserve,
    Send,
    Sleep,
    Wait,
)

T = TypeVar("T")

#: Flows of a `Gather` beyond those that may have a request under way: they decode answers meanwhile.
_SPARE = 2


class _AbandonedError(BaseException):
    """Another flow of the same `Gather` failed, or the caller was interrupted."""


class SyncDriver:
    """Runs a flow in this thread, which `caller` waits for; a `Gather` of several flows takes threads of its own."""

    def __init__(
        self, stop: threading.Event | None = None, place: Place | None = None, caller: int | None = None
    ) -> None:
        self._stop = stop
        self._place = place
        self._caller = caller

    def run(self, flow: Flow[T]) -> T:
        """Runs a flow to its end and returns its result, or raises what it raises."""
        try:
            operation = next(flow)
            while True:
                outcome: Any = None
                failures: list[Exception] = []
                try:
                    outcome = self._perform(operation)
                except Exception as error:
                    failures.append(error)
                if failures and (interruption := raised_by_handler(failures[0])) is not None:
                    failures.clear()
                    raise interruption
                # Thrown out here, and kept nowhere: a foreign error may hold a key or a text, and must not become the
                # context of ours, nor a local of a frame in its traceback.
                operation = flow.throw(failures.pop()) if failures else flow.send(outcome)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    def _perform(self, operation: Operation) -> Any:
        match operation:
            case Send(performer, request, timeout):
                left = timeout if self._place is None else self._place.take(timeout)
                if self._stop is not None and self._stop.is_set():
                    raise _AbandonedError
                try:
                    return performer.send(request, left)
                finally:
                    if self._place is not None:
                        self._place.leave()
            case CountTokens(performer, texts):
                return performer.count_tokens(texts)
            case Now():
                return time.monotonic()
            case CacheLook(store, fields, texts, width, out):
                return store.look(fields, texts, width, out)
            case CacheKeep(store, entries):
                return store.keep(entries)
            case Join(flights, timeout):
                # What a thread leads that waits for this flow cannot land, as inside an event loop: as if handed over.
                waiting = (threading.get_ident(), self._caller)
                wait([flight for flight in flights if getattr(flight, "thread", None) not in waiting], timeout)
                return [_ended(flight) for flight in flights]
            case Wait(future, timeout):
                wait([future], timeout)
                return future.done()
            case Reserve(gate, tokens):
                return gate.reserve(tokens)
            case Sleep(seconds):
                if self._stop is None:
                    time.sleep(seconds)
                elif self._stop.wait(seconds):
                    raise _AbandonedError
                return None
            case Gather(flows, limit):
                return self._gather(flows, limit)
            case _:
                assert_never(operation)

    def _gather(self, flows: Iterable[Flow[Any]], limit: int) -> list[Any]:
        remaining = iter(flows)
        first = [] if limit == 1 else list(islice(remaining, limit + _SPARE))
        if len(first) <= 1:
            return [self.run(flow) for flow in chain(first, remaining)]
        results: list[Any] = []
        source = chain(first, remaining)
        taking, places = threading.Lock(), threading.Semaphore(limit)
        ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        stop = threading.Event()

        def take() -> tuple[int, Flow[Any]] | None:
            # A generator may not be entered by two threads at once.
            with taking:
                flow = None if stop.is_set() else next(source, None)
                if flow is None:
                    return None
                results.append(None)
                return len(results) - 1, flow

        def work() -> None:
            failure, place = None, Place(places)
            try:
                place.take()
                while (taken := take()) is not None:
                    results[taken[0]] = SyncDriver(stop, place).run(taken[1])
                    place.take()
            except BaseException as error:
                failure = error
            place.leave()
            ended.put(failure)

        # Each with the caller's context, a copy of its own: a span that is current here is current there.
        workers = [
            threading.Thread(target=copy_context().run, args=(work,), name="mrlclient", daemon=True) for _ in first
        ]
        try:
            for worker in workers:
                worker.start()
            for _ in workers:
                if (failure := ended.get()) is not None:
                    raise failure
        finally:
            # Nobody is waited for: a request under way may take a minute, and only a cache has a use for its answer.
            stop.set()
        return results


class AsyncDriver:
    """Runs a flow in the running event loop, asyncio's or trio's."""

    def __init__(self, place: AsyncPlace | None = None) -> None:
        self._place = place

    async def run(self, flow: Flow[T]) -> T:
        """Runs a flow to its end and returns its result, or raises what it raises."""
        try:
            operation = next(flow)
            while True:
                outcome: Any = None
                failures: list[Exception] = []
                try:
                    outcome = await self._perform(operation)
                except Exception as error:
                    failures.append(error)
                # Thrown out here, and kept nowhere: a foreign error may hold a key or a text, and must not become the
                # context of ours, nor a local of a frame in its traceback.
                operation = flow.throw(failures.pop()) if failures else flow.send(outcome)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    async def _perform(self, operation: Operation) -> Any:
        match operation:
            case Send(performer, request, timeout):
                if self._place is None:
                    return await performer.asend(request, timeout)
                left = await self._place.take(timeout)
                try:
                    reply = await performer.asend(request, left)
                finally:
                    self._place.leave()
                # Whoever takes the place sends before this answer is decoded.
                await anyio.lowlevel.checkpoint()
                return reply
            case CountTokens(performer, texts):
                return await anyio.to_thread.run_sync(performer.count_tokens, texts)
            case Now():
                return time.monotonic()
            case CacheLook(store, fields, texts, width, out):
                if not store.blocking:
                    return store.look(fields, texts, width, out)
                return await anyio.to_thread.run_sync(store.look, fields, texts, width, out)
            case CacheKeep(store, entries):
                if not store.blocking:
                    return store.keep(entries)
                return await anyio.to_thread.run_sync(store.keep, entries)
            case Join(flights, timeout):
                with anyio.move_on_after(timeout):
                    for flight in flights:
                        await _landing(flight)
                return [_ended(flight) for flight in flights]
            case Wait(future, timeout):
                with anyio.move_on_after(timeout):
                    await _landing(future)
                return future.done()
            case Reserve(gate, tokens):
                if not gate.blocking:
                    return gate.reserve(tokens)
                return await anyio.to_thread.run_sync(gate.reserve, tokens)
            case Sleep(seconds):
                await anyio.sleep(seconds)
                return None
            case Gather(flows, limit):
                return await self._gather(flows, limit)
            case _:
                assert_never(operation)

    async def _gather(self, flows: Iterable[Flow[Any]], limit: int) -> list[Any]:
        remaining = iter(flows)
        first = [] if limit == 1 else list(islice(remaining, limit + _SPARE))
        if len(first) <= 1:
            return [await self.run(flow) for flow in chain(first, remaining)]
        results: list[Any] = []
        source = chain(first, remaining)
        places = anyio.Semaphore(limit, fast_acquire=True)
        failures: list[BaseException] = []

        async def work() -> None:
            place = AsyncPlace(places)
            try:
                await place.take()
                for flow in source:
                    i = len(results)
                    results.append(None)
                    results[i] = await AsyncDriver(place).run(flow)
                    await place.take()
                place.leave()
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                # Not left to the group: asyncio would raise an exit out of the loop here and in the caller's task,
                # and close the loop before the threads that work for it are told to end.
                failures.append(error)
                tasks.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as tasks:
                for _ in first:
                    tasks.start_soon(work)
        except BaseExceptionGroup as group:
            # Trio delivers an interrupt to the task that waits for the group.
            failures.append(_first(group))
        if failures:
            # Raised out here, so that neither a cancellation nor the group is its context.
            raise failures.pop(0)
        return results


def _ended(flight: Future[Any]) -> Any:
    """What came of a flight: its row, its error, or None where it was handed over or is still under way."""
    return (flight.exception() or flight.result()) if flight.done() else None


async def _landing(flight: Future[Any]) -> None:
    """Waits for a flight. Giving up the wait harms neither the flight nor anybody else who waits."""
    if flight.done():
        return
    landed = anyio.Event()
    loop: Any = anyio.lowlevel.current_token().native_token
    # asyncio's name for it, and trio's.
    wake = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon

    def tell(_: Future[Any]) -> None:
        # A loop that is gone has nobody left to tell.
        with suppress(RuntimeError):
            wake(landed.set)

    flight.add_done_callback(tell)
    await landed.wait()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
