"""The charts of a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from mrlclient.evaluate._front import front
from mrlclient.evaluate._words import (
    REFERENCES,
    VERDICTS,
    interval,
    kind,
    loses,
    measure,
    number,
    percent,
    size,
)
from mrlclient.evaluate.outcome import FunnelSetting, Loss, ModelOutcome, Outcome, Point
from mrlclient.evaluate.report.chart import Chart, Mark, Series

#: How many styles lines have; after the last they start again.
_STYLES = 8
_REFERENCE_STYLES = {"pca": "r1", "rotation": "r2"}

_FLOAT32 = 4


def quality_chart(model: ModelOutcome, outcome: Outcome, name: str) -> Chart:
    """The score against the bytes of a vector, a line for each type."""
    score, tolerance = outcome.data.measure, outcome.settings.tolerance
    types = groupby(model.points, lambda point: kind(point.dtype, point.rescored))
    series = [
        Series(of, _style(index), tuple(_size_mark(p, score, f"{size(p)}, {VERDICTS[p.verdict]}") for p in points))
        for index, (of, points) in enumerate(types)
    ]
    for reference, settings in groupby(model.references, lambda item: item.name):
        way = REFERENCES[reference]
        marks = [
            _mark(item.dimensions * _FLOAT32, item.scores[score], item.loss, f"{way}, {item.dimensions:,} × float32")
            for item in settings
        ]
        series.append(Series(way, _REFERENCE_STYLES[reference], tuple(marks)))
    full, chosen = model.full.scores[score], model.recommended
    corners = front(model.points, score)
    return Chart(
        name=name,
        title=f"{measure(score)} against the bytes of a vector",
        description=(
            f"{len(model.points)} sizes of {model.address}. {size(model.full)} reaches {number(full)}. "
            f"No other size is both smaller and better than these: {'; '.join(map(size, corners))}. "
            "The table below has every figure."
        ),
        x_label="Bytes of a vector",
        y_label=measure(score),
        x_ticks=_powers_of_two(mark.x for line in series for mark in line.marks),
        series=tuple(series),
        front=tuple((point.bytes_per_vector, point.scores[score]) for point in corners),
        band=(full - tolerance, full),
        band_label=f"within {tolerance:g} of the full width",
        ring=(chosen.bytes_per_vector, chosen.scores[score]) if chosen else None,
        ring_label=size(chosen) if chosen else "",
    )


def models_chart(outcome: Outcome, name: str) -> Chart:
    """The best of each model, a line for each."""
    score = outcome.data.measure
    series = [
        Series(
            model.address,
            _style(index),
            tuple(_size_mark(point, score, f"{model.address}, {size(point)}") for point in front(model.points, score)),
        )
        for index, model in enumerate(outcome.models)
    ]
    return Chart(
        name=name,
        title=f"The best {measure(score)} of each model against the bytes of a vector",
        description="A line for each model, through the sizes of it that no other is both smaller and better than. "
        + " ".join(
            f"{line.name} reaches {number(line.marks[-1].y)} with {line.marks[-1].x:,.0f} bytes." for line in series
        ),
        x_label="Bytes of a vector",
        y_label=measure(score),
        x_ticks=_powers_of_two(mark.x for line in series for mark in line.marks),
        series=tuple(series),
    )


def funnel_chart(model: ModelOutcome, outcome: Outcome, name: str) -> Chart:
    """The score of searches in two stages against what they read, a line for each width of the shortlist."""
    score = outcome.data.measure
    ordered = sorted(model.funnel, key=lambda setting: (-setting.shortlist_dimensions, setting.depth))
    series = [
        Series(f"shortlist by {width:,} dimensions", _style(index), tuple(_funnel_marks(settings, score)))
        for index, (width, settings) in enumerate(groupby(ordered, lambda setting: setting.shortlist_dimensions))
    ]
    full, tolerance = model.full.scores[score], outcome.settings.tolerance
    costs = [mark.x for line in series for mark in line.marks]
    return Chart(
        name=name,
        title=f"{measure(score)} of a search in two stages against the bytes it reads",
        description=f"{len(model.funnel)} settings of {model.address}. An exact search reaches {number(full)}.",
        x_label="Bytes read, as a share of an exact search",
        y_label=measure(score),
        x_ticks=tuple((share, percent(share)) for share in _round_shares(min(costs), max(costs))),
        series=tuple(series),
        band=(full - tolerance, full),
        band_label=f"within {tolerance:g} of an exact search",
    )


def _funnel_marks(settings: Iterable[FunnelSetting], score: str) -> Iterable[Mark]:
    for setting in settings:
        title = (
            f"{setting.depth:,} documents by {setting.shortlist_dimensions:,} dimensions, {percent(setting.cost)} read"
        )
        yield _mark(setting.cost, setting.scores[score], setting.loss, title)


def _size_mark(point: Point, score: str, what: str) -> Mark:
    solid = point.verdict == "within"
    return _mark(point.bytes_per_vector, point.scores[score], point.loss, what, solid=solid)


def _mark(x: float, score: float, loss: Loss, what: str, *, solid: bool = True) -> Mark:
    """A mark with the interval of its loss around it: the pairs of scores that the interval is of share their level."""
    title = f"{what}: {number(score)}, {loses(loss.mean)} ({interval(loss)})"
    return Mark(x, score, score + loss.mean - loss.high, score + loss.mean - loss.low, title, solid)


def _style(index: int) -> str:
    return f"s{index % _STYLES + 1}"


def _powers_of_two(values: Iterable[float]) -> tuple[tuple[float, str], ...]:
    known = list(values)
    ticks = [2**power for power in range(40) if min(known) <= 2**power * 1.01 and 2**power <= max(known) * 1.01]
    return tuple((tick, f"{tick:,}") for tick in ticks or [round(known[0])])


def _round_shares(low: float, high: float) -> list[float]:
    ticks = [factor * 10.0**power for power in range(-6, 2) for factor in (1, 1.5, 2, 3, 5, 7)]
    return [tick for tick in ticks if low * 0.99 <= tick <= high * 1.01] or [low]
