"""Lines over a logarithmic axis: what they show, and where each mark of it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

#: Room around the plot, in pixels: for the labels of the axes, and for half a mark.
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 16.0, 16.0, 44.0
#: Pixels that a label of the horizontal axis needs, and a line of the vertical one.
_X_LABEL, _Y_LABEL = 58.0, 44.0
#: What stands inside the plot besides the marks keeps this far from its edge.
_INSIDE = 10.0
#: Pixels of a letter of a label in the plot, on average.
_LETTER = 7.2


@dataclass(frozen=True, slots=True)
class Mark:
    """One measured value.

    Attributes:
        x: Above zero.
        y: The value.
        low: Lower end of its interval.
        high: Upper end.
        title: All of it in words.
        solid: Whether the mark is filled.
    """

    x: float
    y: float
    low: float
    high: float
    title: str
    solid: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """Marks that belong together.

    Attributes:
        name: For the legend.
        style: Colour, shape and dash: `s1` to `s8`, and `r1` and `r2` in grey for what is there to compare with.
        marks: In the order of the line.
    """

    name: str
    style: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart shows.

    Attributes:
        name: Of the picture, without spaces: no other on the page has it.
        title: For who cannot see it.
        description: What it shows, in sentences.
        x_label: Of the horizontal axis, which is logarithmic.
        y_label: Of the vertical axis.
        x_ticks: Values of the horizontal axis with their labels, in rising order.
        series: The lines.
        front: Corners of a staircase behind them, from left to right.
        band: Lower and upper end of a shaded band.
        band_label: What it is.
        ring: The mark to point out, by its x and y.
        ring_label: What it is.
    """

    name: str
    title: str
    description: str
    x_label: str
    y_label: str
    x_ticks: tuple[tuple[float, str], ...]
    series: tuple[Series, ...]
    front: tuple[tuple[float, float], ...] = ()
    band: tuple[float, float] | None = None
    band_label: str = ""
    ring: tuple[float, float] | None = None
    ring_label: str = ""

    @property
    def has_open_marks(self) -> bool:
        return any(not mark.solid for series in self.series for mark in series.marks)

    @property
    def covered(self) -> list[tuple[str, str]]:
        """Pairs of lines that cannot be told apart by eye, because all their marks lie on each other."""
        scores = [mark.y for series in self.series for mark in series.marks]
        near = (max(scores) - min(scores)) / 100
        return [
            (one.name, other.name)
            for one, other in combinations(self.series, 2)
            if [mark.x for mark in one.marks] == [mark.x for mark in other.marks]
            and all(abs(mark.y - over.y) < near for mark, over in zip(one.marks, other.marks, strict=True))
        ]


@dataclass(frozen=True, slots=True)
class Line:
    """A series, its marks in pixels."""

    style: str
    path: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """A text in the plot, and where it is anchored: `start` or `end`."""

    x: float
    y: float
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart of one size, in pixels: `left`, `right`, `top` and `bottom` are the edges of the plot."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    front: str
    band: tuple[float, float] | None
    ring: tuple[float, float] | None
    ring_label: Label | None


def place(chart: Chart, width: float, height: float) -> Picture:
    """Where everything stands in a picture of this size."""
    left, right, top, bottom = _LEFT, width - _RIGHT, _TOP, height - _BOTTOM
    marks = [mark for series in chart.series for mark in series.marks]
    values = [value for mark in marks for value in (mark.y, mark.low, mark.high)]
    ticks = round_ticks(min(values), max(values), count=max(2, int((bottom - top) / _Y_LABEL)))
    x = _scale(_padded([math.log2(mark.x) for mark in marks]), (left + _INSIDE, right - _INSIDE))
    y = _scale((ticks[0], ticks[-1]), (bottom, top))

    def across(value: float) -> float:
        return x(math.log2(value))

    band = (y(min(chart.band[1], ticks[-1])), y(max(chart.band[0], ticks[0]))) if chart.band else None
    ring = (across(chart.ring[0]), y(chart.ring[1])) if chart.ring else None
    return Picture(
        width=width,
        height=height,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_ticks=tuple(_thinned([(across(value), label) for value, label in chart.x_ticks], left, right)),
        y_ticks=tuple((y(value), f"{value:.{decimals(ticks)}f}") for value in ticks),
        lines=tuple(_line(series, across, y) for series in chart.series),
        front=_stairs([(across(value), y(score)) for value, score in chart.front]),
        band=band,
        ring=ring,
        ring_label=_above_axis(ring[0], chart.ring_label, right, bottom) if ring else None,
    )


def round_ticks(low: float, high: float, *, count: int) -> list[float]:
    """Round values that enclose the two ends, `count` or fewer steps apart, none wider than needed."""
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 2.5, 5, 10, 20):
        step = factor * power
        # The margin keeps 0.30000000000000004 from asking for a step of its own.
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= count:
            break
    return [index * step for index in range(first, last + 1)]


def decimals(ticks: Sequence[float]) -> int:
    """Digits after the point that tell the ticks apart."""
    return next(digits for digits in range(1, 12) if all(abs(round(tick, digits) - tick) < 1e-9 for tick in ticks))


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """The ends; where there is one value only, it stands in the middle."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 1, high + 1)


def _scale(domain: tuple[float, float], pixels: tuple[float, float]) -> Callable[[float], float]:
    per_unit = (pixels[1] - pixels[0]) / (domain[1] - domain[0])
    return lambda value: round(pixels[0] + (value - domain[0]) * per_unit, 2)


def _thinned(ticks: Iterable[tuple[float, str]], left: float, right: float) -> list[tuple[float, str]]:
    """The ticks in the plot whose labels do not touch."""
    kept: list[tuple[float, str]] = []
    for at, label in ticks:
        if left <= at <= right and (not kept or at - kept[-1][0] >= _X_LABEL):
            kept.append((at, label))
    return kept


def _line(series: Series, x: Callable[[float], float], y: Callable[[float], float]) -> Line:
    marks = tuple(replace(mark, x=x(mark.x), y=y(mark.y), low=y(mark.low), high=y(mark.high)) for mark in series.marks)
    path = "M" + "L".join(f"{mark.x:g},{mark.y:g}" for mark in marks) if len(marks) > 1 else ""
    return Line(series.style, path, marks)


def _stairs(corners: Sequence[tuple[float, float]]) -> str:
    """A path that goes right first and then up, from corner to corner."""
    if len(corners) < 2:
        return ""
    (x, y), *others = corners
    return f"M{x:g},{y:g}" + "".join(f"H{right:g}V{up:g}" for right, up in others)


def _above_axis(x: float, text: str, right: float, bottom: float) -> Label:
    """Beside a line that leads down to the axis, on the side that has room for the text."""
    anchor, shift = ("start", 7) if x + 7 + _LETTER * len(text) < right else ("end", -7)
    return Label(x + shift, bottom - 8, anchor, text)
