"""A chunk of a stream, and how chunks are to be made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mrlclient._progress import Progress, progress_of
from mrlclient._ranges import MIN_SAMPLE
from mrlclient.call import Call
from mrlclient.drivers import AsyncDriver, SyncDriver
from mrlclient.engine import Engine
from mrlclient.errors import ConfigurationError
from mrlclient.models import is_width
from mrlclient.plan import make_plan
from mrlclient.result import EmbeddingResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive texts of a stream, and their embeddings.

    Attributes:
        start: The position of the first text in the stream.
        texts: The texts, as given.
        result: What `embed` returns for them. The keys of `result.errors` are positions in `texts`; the errors
            themselves count in the whole stream, in `index` and in "Text 3".
    """

    start: int
    texts: Sequence[str] = field(repr=False)
    result: EmbeddingResult

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """(n, d) float32, one row per text."""
        return self.result.embeddings


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What is wanted of a stream, once it has been found that it can be had.

    Attributes:
        engine: What runs the chunks.
        call: A call without texts, planned as each chunk is to be.
        check_open: Raises where the embedder is closed.
        chunk_size: Texts in a chunk.
        ordered: Whether chunks come in the order of the texts.
        progress: Who is told how far it is.
    """

    engine: Engine
    call: Call
    check_open: Callable[[], object]
    chunk_size: int
    ordered: bool
    progress: Progress

    @property
    def limit(self) -> int:
        """Chunks under way at once."""
        return 1 if self.call.plan.packing.serial else self.call.policy.max_concurrency

    def perform(self, job: tuple[int, list[str]], stop: threading.Event, caller: int) -> Chunk:
        """Embeds a chunk, for a thread that waits for it."""
        return Chunk(*job, self.engine.perform(self._call_for(*job), SyncDriver(stop, caller=caller)))

    async def aperform(self, job: tuple[int, list[str]]) -> Chunk:
        """As `perform`, in the running event loop."""
        return Chunk(*job, await self.engine.aperform(self._call_for(*job), AsyncDriver()))

    def _call_for(self, start: int, texts: list[str]) -> Call:
        made = self.call.plan
        plan = make_plan(
            made.spec,
            made.packing,
            texts,
            made.resolution,
            input_type=made.input_type,
            task=made.task,
            truncate_input=made.truncate_input,
            start=start,
        )
        # The bound is on the requests of the stream: those of one chunk follow one another.
        policy = replace(self.call.policy, max_concurrency=1)
        return Call(plan, self.call.route, policy, self.call.on_error, streamed=True)

    def finished(self, chunk: Chunk) -> Chunk:
        """The chunk as it is given out: with its vectors in the type that is wanted."""
        result = self.call.output.added_to(chunk.result)
        return chunk if result is chunk.result else replace(chunk, result=result)


def order(
    engine: Engine,
    call: Call,
    check_open: Callable[[], object],
    texts: object,
    *,
    chunk_size: int,
    ordered: bool,
    progress: bool | Callable[[int], object],
) -> Order:
    """What is wanted of a stream.

    Raises:
        ConfigurationError: If an argument is out of range.
        MissingExtraError: If a bar is wanted and `rich` is not installed.
    """
    if not is_width(chunk_size):
        raise ConfigurationError(f"chunk_size must be a positive integer, not {chunk_size!r}.")
    if not isinstance(ordered, bool):
        raise ConfigurationError(f"ordered must be True or False, not {ordered!r}.")
    if call.output.needs_ranges:
        raise ConfigurationError(
            f"A stream of {call.output.dtype} needs ranges=calibrate(vectors), with the vectors of "
            f"{MIN_SAMPLE} texts or more: found chunk by chunk, they would differ, and so would what a code stands for."
        )
    return Order(engine, call, check_open, chunk_size, ordered, progress_of(progress, texts))
