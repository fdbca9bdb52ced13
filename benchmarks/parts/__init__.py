"""What is measured: each part takes the run and returns its tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.bench import Bench


class Section(NamedTuple):
    """A part's result.

    Attributes:
        tables: Markdown for the page, by the name of the place where it goes.
        bars: Numbers for the plot, by the title of its axis and the label.
    """

    tables: dict[str, str]
    bars: dict[str, dict[str, float]]


class Part(NamedTuple):
    """Something that can be measured alone.

    Attributes:
        run: Measures it.
        places: The tables that come of it.
    """

    run: Callable[[Bench], Section]
    places: tuple[str, ...]
