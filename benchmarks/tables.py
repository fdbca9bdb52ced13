"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.bench import Measured


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of which all but the first column are numbers."""
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, unit: float = 1.0) -> str:
    """Three digits that count, or a dash."""
    if value is None:
        return "–"
    scaled = value / unit
    if scaled >= 99.95:
        return f"{scaled:,.0f}"
    return f"{scaled:.1f}" if scaled >= 9.995 else f"{scaled:.2f}"


def ratio(value: float | None, other: float | None) -> str:
    """How many times the other one, or a dash."""
    return "–" if value is None or other is None else number(value / other)


def missing_row(result: Measured, columns: int) -> list[str]:
    """The row of what could not be measured."""
    return [result.label, "not available", *[""] * (columns - 2)]
