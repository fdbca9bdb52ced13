"""One run of `mrlclient embed`: texts through the embedder to where they are written, a chunk at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypedDict

from mrlclient.cli._formats import Format, head, rows, write_whole
from mrlclient.cli._messages import tell
from mrlclient.cli._options import Session
from mrlclient.cli._part import Part
from mrlclient.cli._texts import Texts
from mrlclient.errors import ConfigurationError, MRLError

if TYPE_CHECKING:
    from mrlclient.embedder import Embedder
    from mrlclient.models import InputType, Task
    from mrlclient.result import EmbeddingResult

#: Texts of a chunk. So few in all are embedded by one call, whose requests go out side by side.
_CHUNK = 1024


class Wanted(TypedDict):
    """What is asked of the embedder."""

    dimensions: Sequence[int] | None
    input_type: InputType | None
    task: Task | None


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What is embedded, and as what it is written.

    Attributes:
        embedder: Who embeds.
        given: The texts.
        skip: How many of them are left out, from the first.
        wanted: What is asked of the embedder.
        chosen: The format.
        widths: The widths that are written, widest first.
        watched: Whether somebody looks at a bar.
        session: Is told how to go on, where the run ends early.
    """

    embedder: Embedder
    given: Texts
    skip: int
    wanted: Wanted
    chosen: Format
    widths: Sequence[int]
    watched: bool
    session: Session

    def into_file(self, output: Path) -> None:
        """Writes rows to a file, or goes on with the part of it that is there.

        Raises:
            MRLError: As `Embedder.embed_iter`; or if the part is of something else.
            OSError: If it cannot be written.
        """
        with closing(self._texts()) as texts:
            part = Part(output, texts, self._settings(), partial(head, self.chosen, self.widths[0]))
            start = self.skip + part.kept
            try:
                with part:
                    if part.kept:
                        tell(
                            "note", f"{part.path} has the first {part.kept:,} texts. Going on from there.", self.session
                        )
                    for read, result in self._results(texts, start):
                        part.write(read, rows(self.chosen, result, self.widths, start))
                        start += len(read)
            except BaseException:
                if part.kept:
                    self.session.note = (
                        f"{part.path} has the first {part.kept:,} texts. The same command again goes on from there."
                    )
                raise

    def into_stream(self, stream: TextIO) -> None:
        """Writes to a stream: rows as they come, or what is no row when all is there.

        Raises:
            MRLError: As `Embedder.embed_iter`.
            OSError: If it cannot be written.
        """
        with closing(self._texts()) as texts:
            results = self._results(texts, self.skip)
            if self.chosen in ("table", "json"):
                self._write_whole(results, stream)
                return
            start = self.skip
            stream.flush()
            try:
                # The number is known of all that go into an npy.
                stream.buffer.write(head(self.chosen, self.widths[0], (self.given.count or 0) - self.skip))
                for read, result in results:
                    stream.buffer.writelines(rows(self.chosen, result, self.widths, start))
                    stream.buffer.flush()
                    start += len(read)
            except BrokenPipeError:
                raise
            except (MRLError, OSError, KeyboardInterrupt):
                if start > self.skip:
                    self.session.note = f"The first {start - self.skip:,} rows are written. " + (
                        "With --output FILE such a run can be gone on with."
                        if self.chosen == "npy"
                        else f"The same command with --skip {start} gives the others."
                    )
                raise

    def _write_whole(self, results: Iterator[tuple[list[str], EmbeddingResult]], stream: TextIO) -> None:
        try:
            write_whole(self.chosen, (result for _, result in results), self.widths, stream)
        except (MRLError, KeyboardInterrupt):
            if self.given.count is None or self.given.count - self.skip > _CHUNK:
                self.session.note = (
                    f"A {self.chosen} is written when all is there, so nothing was. --output with .jsonl or .npy keeps "
                    "what was got; so does --cache."
                )
            raise

    def _texts(self) -> Generator[str]:
        """Those that are not left out."""
        texts = iter(self.given)
        skipped = sum(1 for _ in islice(texts, self.skip))
        first = next(texts, None)
        if first is None:
            raise ConfigurationError(f"--skip {self.skip} leaves no text of {skipped:,}.")
        yield first
        yield from texts

    def _results(self, texts: Iterator[str], start: int) -> Iterator[tuple[list[str], EmbeddingResult]]:
        """Texts in their order, and what comes of them; of a chunk that fails, what stands before the failure."""
        from mrlclient._progress import progress_of

        read: deque[str] = deque()

        def noted() -> Iterator[str]:
            for text in texts:
                read.append(text)
                yield text

        left = noted()
        first = list(islice(left, _CHUNK + 1))
        try:
            if len(first) <= _CHUNK:
                if first:
                    yield first, self.embedder.embed(first, dtype="float32", **self.wanted)
                return
            bar = progress_of(self.watched, None if self.given.count is None else range(self.given.count))
            chunks: Any = self.embedder.embed_iter(
                chain(first, left), dtype="float32", chunk_size=_CHUNK, **self.wanted
            )
            with closing(bar), chunks:
                for chunk in chunks:
                    yield [read.popleft() for _ in chunk.texts], chunk.result
                    bar.tell(start + chunk.start + len(chunk.texts))
        except MRLError as error:
            got = error.partial
            there = 0 if got is None else min(got.errors, default=0)
            if got is not None and there:
                yield [read.popleft() for _ in range(there)], replace(got, floats=got.embeddings[:there], errors={})
            placed = self.given.placed(error, start)
            if placed is error:
                raise
            raise placed from error

    def _settings(self) -> dict[str, object]:
        """What decides the rows, but for the texts."""
        from mrlclient.cached import cache_fields

        call = self.embedder._engine.plan((), **self.wanted, on_error="raise")
        return {
            "model": self.embedder.model,
            "dimensions": [*self.widths],
            "format": self.chosen,
            "skip": self.skip,
            "vectors": cache_fields(call.plan, call.route.main.provider.identity),
        }
