"""Who does the jobs of a stream while its caller goes on: threads, tasks of the running event loop, or the caller.

A crew never refers to the stream, so that a stream that is dropped is collected, and lets its crew go.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from mrlclient.errors import MRLError

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

#: A job's number and what came of it: a result, or the error to raise.
Landed = tuple[int, T | BaseException]


class Threads(Generic[T]):
    """Does jobs in threads of its own, `limit` at a time.

    Args:
        limit: Jobs under way at once.
        work: Does a job, for a thread that waits for it; it is given up where the event is set.
    """

    def __init__(self, limit: int, work: Callable[[Any, threading.Event, int], T]) -> None:
        self._limit = limit
        self._work = work
        self._jobs: queue.SimpleQueue[tuple[int, Context, Any, int] | None] = queue.SimpleQueue()
        self._landed: queue.SimpleQueue[Landed[T]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._threads = self._under_way = 0
        self._failed: int | None = None

    def send(self, number: int, job: Any) -> None:
        """Has a job done, in a copy of the caller's context: a span that is current here is current there."""
        self._under_way += 1
        self._jobs.put((number, copy_context(), job, threading.get_ident()))
        if self._threads < min(self._limit, self._under_way):
            thread = threading.Thread(target=self._serve, name="mrlclient", daemon=True)
            thread.start()
            self._threads += 1

    def landed(self) -> Landed[T] | None:
        """What came of a job, whichever was done first; None where none is."""
        return None if self._landed.empty() else self.wait()

    def wait(self) -> Landed[T]:
        """`landed`, when a job is done."""
        landed = self._landed.get()
        self._under_way -= 1
        return landed

    def close(self) -> None:
        """Ends the threads. Nobody waits for them: a request under way may take a minute."""
        self._stop.set()
        for _ in range(self._threads):
            self._jobs.put(None)

    def _serve(self) -> None:
        while (taken := self._jobs.get()) is not None and not self._stop.is_set():
            number, context, job, caller = taken
            if self._failed is None or number < self._failed:
                outcome = context.run(self._outcome, job, caller)
                if isinstance(outcome, BaseException):
                    self._failed = number
                self._landed.put((number, outcome))
                del outcome
            # Not held while there is nothing to do: it has texts.
            del taken, context, job

    def _outcome(self, job: Any, caller: int) -> T | BaseException:
        try:
            return self._work(job, self._stop, caller)
        except BaseException as error:
            return error


class Tasks(Generic[T]):
    """Does jobs in tasks of the running event loop, asyncio's or trio's, `limit` at a time.

    They are no children of the caller's task: an iterator that is left by `break` has no moment to wait for them, so
    no group of tasks and no cancel scope may be open between two of its items (PEP 789). Each has a scope of its own.

    Args:
        limit: Jobs under way at once.
        work: Does a job.
    """

    def __init__(self, limit: int, work: Callable[[Any], Awaitable[T]]) -> None:
        self._limit = limit
        self._work = work
        self._waiting: deque[tuple[int, Context, Any]] = deque()
        self._under_way: dict[int, anyio.CancelScope | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._landed: deque[Landed[T]] = deque()
        self._news: anyio.Event | None = None
        self._loop: Any = None
        self._failed: int | None = None
        self._closed = False

    def send(self, number: int, job: Any) -> None:
        """Has a job done, in a copy of the caller's context."""
        self._loop = anyio.lowlevel.current_token().native_token
        self._waiting.append((number, copy_context(), job))
        self._fill()

    def landed(self) -> Landed[T] | None:
        """What came of a job, whichever was done first; None where none is."""
        return self._landed.popleft() if self._landed else None

    async def wait(self) -> Landed[T]:
        """`landed`, when a job is done."""
        while not self._landed:
            self._news = news = anyio.Event()
            await news.wait()
        return self._landed.popleft()

    def close(self) -> None:
        """Cancels the tasks, from wherever: whoever collects garbage may be another thread. Nobody waits for them."""
        if self._loop is None or self._closed:
            return
        self._closed = True
        # asyncio's name for it, and trio's.
        soon = getattr(self._loop, "call_soon_threadsafe", None) or self._loop.run_sync_soon
        # A loop that is gone has taken its tasks with it.
        with suppress(RuntimeError):
            soon(self._cancel)

    def _cancel(self) -> None:
        self._waiting.clear()
        for scope in self._under_way.values():
            if scope is not None:
                scope.cancel()

    def _fill(self) -> None:
        while self._waiting and len(self._under_way) < self._limit and not self._closed:
            number, context, job = self._waiting.popleft()
            if self._failed is None or number < self._failed:
                self._under_way[number] = None
                self._spawn(self._do, number, job, context=context)

    def _spawn(self, run: Callable[..., Coroutine[Any, Any, None]], *arguments: Any, context: Context) -> None:
        if hasattr(self._loop, "create_task"):
            task = self._loop.create_task(run(*arguments), name="mrlclient", context=context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        import trio

        trio.lowlevel.spawn_system_task(run, *arguments, name="mrlclient", context=context)

    async def _do(self, number: int, job: Any) -> None:
        # As long as nobody says otherwise.
        outcome: T | BaseException = MRLError("A task of this stream was cancelled by somebody else.")
        try:
            with anyio.CancelScope() as scope:
                self._under_way[number] = scope
                if self._closed:
                    return
                outcome = await self._outcome(job)
        finally:
            del self._under_way[number]
            if isinstance(outcome, BaseException):
                self._failed = number
            self._landed.append((number, outcome))
            del outcome
            if self._news is not None:
                self._news.set()
            self._fill()

    async def _outcome(self, job: Any) -> T | BaseException:
        try:
            return await self._work(job)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            # An exit too is the caller's: asyncio would raise it out of the loop, and close that before its threads.
            return error


class _Alone(Generic[T]):
    """Keeps jobs until somebody waits for them."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[int, Any]] = deque()

    def send(self, number: int, job: Any) -> None:
        """Has a job done when it is waited for."""
        self._jobs.append((number, job))

    def landed(self) -> Landed[T] | None:
        """None: nothing is done unless it is waited for."""
        return None

    def close(self) -> None:
        """Forgets what was to be done."""
        self._jobs.clear()


class Nobody(_Alone[T]):
    """Does a job in the caller's own thread, when its outcome is waited for.

    Args:
        work: Does a job, for a thread that waits for it; it is given up where the event is set.
    """

    def __init__(self, work: Callable[[Any, threading.Event, int], T]) -> None:
        super().__init__()
        self._work = work

    def wait(self) -> Landed[T]:
        """Does the first job."""
        number, job = self._jobs.popleft()
        try:
            return number, self._work(job, threading.Event(), threading.get_ident())
        except Exception as error:
            return number, error


class AsyncNobody(_Alone[T]):
    """Does a job in the caller's own task, when its outcome is waited for.

    Args:
        work: Does a job.
    """

    def __init__(self, work: Callable[[Any], Awaitable[T]]) -> None:
        super().__init__()
        self._work = work

    async def wait(self) -> Landed[T]:
        """Does the first job."""
        number, job = self._jobs.popleft()
        try:
            return number, await self._work(job)
        except Exception as error:
            return number, error
