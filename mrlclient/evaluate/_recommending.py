"""From losses to advice: walk down from the full width, and stop at the first size that is not shown to be enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.evaluate._words import confidence, measure, percent, size
from mrlclient.evaluate.outcome import DataSet, Loss, Point, Recommendation, Settings, Verdict
from mrlclient.evaluate.statistics import MIN_QUERIES, queries_needed

if TYPE_CHECKING:
    from numpy.typing import NDArray


def verdicts(losses: Sequence[Loss], bounds: Sequence[float], queries: int, tolerance: float) -> list[Verdict]:
    """Of the sizes of one walk, the widest first.

    Each is tested only where all before it passed: so the chance that any of them passes wrongly is that of one test
    (the fixed sequence of Maurer, Hothorn & Lehmacher 1995).
    """
    found: list[Verdict] = []
    passed = queries >= MIN_QUERIES
    for loss, bound in zip(losses, bounds, strict=True):
        passed = passed and bound <= tolerance
        found.append("within" if passed else "beyond" if loss.low > tolerance else "undecided")
    return found


def recommend(
    points: Sequence[Point],
    values: NDArray[np.float64],
    data: DataSet,
    settings: Settings,
    smallest_evaluated: int | None = None,
) -> Recommendation:
    """The smallest of the points that are within the tolerance.

    Args:
        points: Walk by walk, the widest first; the first is the full width in float32.
        values: (p, n) the losses of each query at each.
        data: What was searched.
        settings: How it was measured.
        smallest_evaluated: The narrowest width that the model's authors evaluated.
    """
    best = min(
        (point for point in points if point.verdict == "within"),
        key=lambda point: (point.bytes_per_vector, point.rescore_bytes_per_vector, point.loss.mean),
    )
    stops = {
        place: queries_needed(values[place], tolerance=settings.tolerance, alpha=alpha(settings))
        for place in _stops(points)
        if points[place].bytes_per_vector < best.bytes_per_vector
    }
    open_stops = {
        place: needed for place, needed in stops.items() if needed is not None and points[place].verdict == "undecided"
    }
    # The full width is always within: without another, nothing was shown.
    shown = best is not points[0]
    nearest = min(open_stops, key=lambda place: (open_stops[place], points[place].bytes_per_vector), default=None)
    needed = None if nearest is None else open_stops[nearest]
    if data.queries < MIN_QUERIES or (not shown and nearest is not None):
        few = (
            f"There are {data.queries} queries, and under {MIN_QUERIES} say too little of others."
            if data.queries < MIN_QUERIES
            else f"{data.queries} queries cannot tell whether any smaller size loses more than {settings.tolerance:g}."
        )
        wanted = max(needed or 0, MIN_QUERIES)
        advice = f"About {wanted:,} queries would do, if their losses are like these."
        return Recommendation("not enough evidence", (few, advice), queries_needed=wanted)
    reasons = [*_gains(best, points[0], data, settings, smallest_evaluated)] if shown else []
    reasons += _limits(points, stops, open_stops, nearest, data, settings)
    return Recommendation(
        "smaller" if shown else "full", tuple(reasons), best.dimensions, best.dtype, best.rescored, needed
    )


def alpha(settings: Settings) -> float:
    """The share of the doubt that each walk takes, so that all of them together have what was asked for."""
    return (1 - settings.confidence) / settings.walks


def _stops(points: Sequence[Point]) -> Iterator[int]:
    """In each walk, the first point that is not within."""
    for _, walk in groupby(range(len(points)), key=lambda place: (points[place].dtype, points[place].rescored)):
        stop = next((place for place in walk if points[place].verdict != "within"), None)
        if stop is not None:
            yield stop


def _gains(
    best: Point, full: Point, data: DataSet, settings: Settings, smallest_evaluated: int | None
) -> Iterator[str]:
    """Why the best is good enough, and what to know of it."""
    yield (
        f"{_subject(best)} loses {best.loss.mean:.4f} of {measure(data.measure)}, which is "
        f"{full.scores[data.measure]:.4f} at the full width; and not more than {max(best.bound, 0):.4f}, with a "
        f"confidence of {confidence(settings.confidence)}. The tolerance is {settings.tolerance:g}."
    )
    yield (
        f"It takes {best.bytes_per_vector:,} bytes a vector instead of {full.bytes_per_vector:,}."
        + (f" The {best.rescore_bytes_per_vector:,} to rescore with may stand on a disk." if best.rescored else "")
    )
    if best.hurt:
        yield f"{percent(best.hurt)} of the queries lose more than {settings.hurt:g} all the same."
    for group in best.groups:
        if group.worse:
            yield f"The {group.queries} queries of the group {group.name} lose more than others: {group.loss.mean:.4f}."
    if smallest_evaluated is not None and best.dimensions < smallest_evaluated:
        yield f"The model's authors evaluated no width below {smallest_evaluated}."
    if not data.judged:
        yield "Nobody has judged these queries: this is agreement with the full width, not quality."


def _limits(
    points: Sequence[Point],
    stops: Mapping[int, int | None],
    open_stops: Mapping[int, int],
    nearest: int | None,
    data: DataSet,
    settings: Settings,
) -> Iterator[str]:
    """Why nothing smaller is advised."""
    if nearest is not None:
        yield (
            f"{_subject(points[nearest])} may be enough as well: {data.queries:,} queries cannot tell, about "
            f"{open_stops[nearest]:,} would."
        )
    lost = [points[place] for place in stops if place not in open_stops]
    if lost:
        kept = min(lost, key=lambda point: point.loss.mean)
        yield (
            f"Of the other smaller sizes {_subject(kept)} loses least, {kept.loss.mean:.4f}: "
            + ("surely" if kept.verdict == "beyond" else "it seems")
            + f" more than {settings.tolerance:g}."
        )
    if not stops:
        yield "Nothing smaller was measured."


def _subject(point: Point) -> str:
    """A size at the beginning of a sentence."""
    return f"{size(point)}{',' if point.rescored else ''}"
