"""Telling how far a stream is: a bar on standard error, or whatever the caller has."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from typing import Protocol

from mrlclient.errors import ConfigurationError, missing_extra

#: Seconds between two drawings of the bar.
_REDRAWN = 0.1


class Progress(Protocol):
    """Is told how many texts are done."""

    def tell(self, done: int) -> None:
        """So many are done."""
        ...

    def close(self) -> None:
        """There is nothing more to come."""
        ...


def progress_of(progress: bool | Callable[[int], object], texts: object, unit: str = "texts") -> Progress:
    """What an argument `progress` asks for, and what is counted.

    Raises:
        MissingExtraError: If a bar is wanted and `rich` is not installed.
        ConfigurationError: If it is neither a bool nor a function.
    """
    if progress is True:
        return _Bar(len(texts) if isinstance(texts, Sized) else None, unit)
    if progress is False:
        return _Told(lambda _: None)
    if not callable(progress):
        raise ConfigurationError(f"progress must be True, False or a function, not {type(progress).__name__}.")
    return _Told(progress)


class _Told:
    """A function of the caller's."""

    def __init__(self, tell: Callable[[int], object]) -> None:
        self._tell = tell

    def tell(self, done: int) -> None:
        self._tell(done)

    def close(self) -> None:
        pass


class _Bar:
    """A bar on standard error; where that is no terminal, one line at the end. It takes no thread."""

    def __init__(self, total: int | None, unit: str) -> None:
        try:
            from rich import progress
            from rich.console import Console
        except ImportError:
            raise missing_extra("rich, which draws the bar,", "cli") from None
        # What the caller prints is left alone: a bar on standard error must not move what goes to standard output.
        self._bar = progress.Progress(
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn(unit),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=total)
        self._started = False
        self._drawn = 0.0

    def tell(self, done: int) -> None:
        if not self._started:
            self._started = True
            self._bar.start()
        now = time.monotonic()
        self._bar.update(self._task, completed=done, refresh=now - self._drawn >= _REDRAWN)
        if now - self._drawn >= _REDRAWN:
            self._drawn = now

    def close(self) -> None:
        if self._started:
            self._started = False
            self._bar.stop()
