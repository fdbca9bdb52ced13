"""A stream of texts, embedded a chunk at a time: any number of them, in constant memory."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Any, Literal, Self

import anyio.lowlevel

from mrlclient._frames import discreet
from mrlclient._warn import warn_user
from mrlclient.chunk import Chunk, Order
from mrlclient.crews import AsyncNobody, Nobody, Tasks, Threads
from mrlclient.errors import ConfigurationError, MRLError, ServerBehaviorWarning
from mrlclient.plan import iterator_of


class _Stream:
    """What both kinds of stream know: which chunks are held, and which of them is next."""

    #: Who does the work.
    _crew: Any

    def __init__(self, order: Order) -> None:
        self._order = order
        self._texts_read = self._texts_given = 0
        self._read = self._given = 0
        self._landed: dict[int, Chunk | BaseException] = {}
        self._more = True
        self._refilled = False
        self._broken: list[Exception] = []
        self._notes: set[str] = set()
        self._busy = False
        self._closed = False

    def _next_step(self) -> Literal["give", "read", "wait", "end"]:
        """What to do next. One chunk is read for each that is given, so that nobody runs out of work meanwhile."""
        held = self._read - self._given
        limit = self._order.limit
        # Where there is nobody else to work, nothing is read ahead.
        room = self._more and held < (1 if limit == 1 else 2 * limit)
        idle = held - len(self._landed) < limit
        if self._next() is not None and (self._refilled or not (room and idle)):
            return "give"
        if room:
            return "read"
        return "wait" if held else "end"

    def _next(self) -> int | None:
        """The number of the chunk to be given next, where it is there."""
        if self._order.ordered:
            return self._given if self._given in self._landed else None
        failed = (number for number, outcome in self._landed.items() if isinstance(outcome, BaseException))
        return next(failed, next(iter(self._landed), None))

    def _give(self) -> Chunk:
        number = self._next()
        assert number is not None
        self._refilled = False
        self._given += 1
        outcome = self._landed.pop(number)
        if isinstance(outcome, BaseException):
            if isinstance(outcome, MRLError):
                # Requests that are under way when the embedder is closed fail in many ways.
                self._order.check_open()
            raise outcome
        for note in outcome.result.notes:
            if note not in self._notes:
                self._notes.add(note)
                warn_user(note, ServerBehaviorWarning)
        self._texts_given += len(outcome.texts)
        self._order.progress.tell(self._texts_given)
        return self._order.finished(outcome)

    def _land(self, number: int, outcome: Chunk | BaseException) -> None:
        self._landed[number] = outcome
        # What is read after a failure would be paid for in vain.
        self._more = self._more and not isinstance(outcome, BaseException)

    def _read_from(self, source: Iterator[str]) -> list[str]:
        texts: list[str] = []
        try:
            for text in source:
                texts.append(text)
                if len(texts) == self._order.chunk_size:
                    break
        except Exception as error:
            self._broke(error)
        return texts

    def _broke(self, error: Exception) -> None:
        """The caller's own iterator raised: what was read before is delivered first."""
        self._broken.append(error)
        self._more = False

    def _send(self, texts: list[str]) -> None:
        """Has a chunk that has been read embedded; fewer texts than wanted are the last."""
        self._more = self._more and len(texts) == self._order.chunk_size
        self._refilled = True
        if texts:
            number, job = self._read, (self._texts_read, texts)
            self._read += 1
            self._texts_read += len(texts)
            self._crew.send(number, job)

    def _begin(self) -> None:
        if self._busy:
            raise ConfigurationError(
                "Another thread or task is waiting for this stream. Give each a stream of its own."
            )
        self._busy = True

    def _end(self) -> None:
        """Everything has been given: what the caller's own iterator raised is due."""
        if self._broken:
            raise self._broken.pop()

    def _let_go(self) -> None:
        self._closed = True
        self._landed.clear()
        self._broken.clear()
        self._order.progress.close()


class Chunks(_Stream, Iterator[Chunk]):
    """The chunks of a stream."""

    def __init__(self, order: Order, texts: Iterable[str]) -> None:
        super().__init__(order)
        self._source: Iterator[str] = iterator_of(texts)
        self._crew: Threads[Chunk] | Nobody[Chunk] = (
            Nobody(order.perform) if order.limit == 1 else Threads(order.limit, order.perform)
        )

    @discreet
    def __next__(self) -> Chunk:
        if self._closed:
            raise StopIteration
        self._begin()
        try:
            self._order.check_open()
            while True:
                while (landed := self._crew.landed()) is not None:
                    self._land(*landed)
                match self._next_step():
                    case "give":
                        return self._give()
                    case "read":
                        self._send(self._read_from(self._source))
                    case "wait":
                        self._land(*self._crew.wait())
                    case "end":
                        self._end()
                        raise StopIteration
        except BaseException:
            self.close()
            raise
        finally:
            self._busy = False

    def close(self) -> None:
        """Ends the stream, and the requests under way with it."""
        self._crew.close()
        self._let_go()
        self._source = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # It may never have come to be, and a bar may have nowhere to go any more.
        with suppress(Exception):
            self.close()


class AsyncChunks(_Stream, AsyncIterator[Chunk]):
    """The chunks of a stream, in the running event loop."""

    def __init__(self, order: Order, texts: Iterable[str] | AsyncIterable[str]) -> None:
        super().__init__(order)
        self._source: Iterator[str] | AsyncIterator[str] = (
            aiter(texts) if isinstance(texts, AsyncIterable) else iterator_of(texts)
        )
        self._crew: Tasks[Chunk] | AsyncNobody[Chunk] = (
            AsyncNobody(order.aperform) if order.limit == 1 else Tasks(order.limit, order.aperform)
        )

    @discreet
    async def __anext__(self) -> Chunk:
        if self._closed:
            raise StopAsyncIteration
        self._begin()
        try:
            self._order.check_open()
            await anyio.lowlevel.checkpoint()
            while True:
                while (landed := self._crew.landed()) is not None:
                    self._land(*landed)
                match self._next_step():
                    case "give":
                        return self._give()
                    case "read":
                        self._send(await self._read_texts())
                        # The task begins before the next text is read, which may take its time.
                        await anyio.lowlevel.checkpoint()
                    case "wait":
                        self._land(*await self._crew.wait())
                    case "end":
                        self._end()
                        raise StopAsyncIteration
        except BaseException:
            self._abandon()
            raise
        finally:
            self._busy = False

    async def aclose(self) -> None:
        """Ends the stream, and the requests under way with it."""
        self._abandon()

    def _abandon(self) -> None:
        self._crew.close()
        self._let_go()
        self._source = iter(())

    async def _read_texts(self) -> list[str]:
        if not isinstance(self._source, AsyncIterator):
            return self._read_from(self._source)
        texts: list[str] = []
        try:
            async for text in self._source:
                texts.append(text)
                if len(texts) == self._order.chunk_size:
                    break
        except Exception as error:
            self._broke(error)
        return texts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # It may never have come to be, and a bar may have nowhere to go any more.
        with suppress(Exception):
            self._abandon()
