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
    plain_number,
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
    series = _by_type(model, score)
    for reference, settings in groupby(sorted(model.references, key=lambda item: item.name), lambda item: item.name):
        found = [(item.dimensions, item) for item in sorted(settings, key=lambda item: -item.dimensions)]
        marks = [
            _mark(width * _FLOAT32, item.scores[score], item.loss, f"{REFERENCES[reference]}, {width:,} × float32")
            for width, item in found
        ]
        series.append(Series(REFERENCES[reference], _REFERENCE_STYLES[reference], tuple(marks)))
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
        band_label=f"within {plain_number(tolerance)} of the full width",
        ring=(chosen.bytes_per_vector, chosen.scores[score]) if chosen else None,
        ring_label=size(chosen) if chosen else "",
    )


def _by_type(model: ModelOutcome, score: str) -> list[Series]:
    lines: dict[tuple[str, bool], list[Point]] = {}
    for point in model.points:
        lines.setdefault((point.dtype, point.rescored), []).append(point)
    return [
        Series(
            kind(*of),
            _style(index),
            tuple(
                _mark(
                    point.bytes_per_vector,
                    point.scores[score],
                    point.loss,
                    f"{size(point)}, {VERDICTS[point.verdict]}",
                    solid=point.verdict == "within",
                )
                for point in sorted(points, key=lambda point: -point.dimensions)
            ),
        )
        for index, (of, points) in enumerate(lines.items())
    ]


def models_chart(outcome: Outcome, name: str) -> Chart:
    """The best of each model, a line for each."""
    score = outcome.data.measure
    series = [
        Series(
            model.address,
            _style(index),
            tuple(
                _mark(
                    point.bytes_per_vector,
                    point.scores[score],
                    point.loss,
                    f"{model.address}, {size(point)}",
                    solid=point.verdict == "within",
                )
                for point in front(model.points, score)
            ),
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
        band_label=f"within {plain_number(tolerance)} of an exact search",
    )


def _funnel_marks(settings: Iterable[FunnelSetting], score: str) -> Iterable[Mark]:
    for setting in settings:
        title = (
            f"{setting.depth:,} documents by {setting.shortlist_dimensions:,} dimensions, {percent(setting.cost)} read"
        )
        yield _mark(setting.cost, setting.scores[score], setting.loss, title)


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
