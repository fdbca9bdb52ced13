"""Which sizes are worth a look."""

from __future__ import annotations

from collections.abc import Sequence

from mrlclient.evaluate.outcome import ModelOutcome, Point


def front(points: Sequence[Point], score: str) -> list[Point]:
    """The points that no other beats in both bytes and score, the smallest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.bytes_per_vector, -point.scores[score])):
        if not kept or point.scores[score] > kept[-1].scores[score]:
            kept.append(point)
    return kept


def first_that_failed(model: ModelOutcome, score: str) -> Point | None:
    """The next step down from the recommended size: the widest of its type that is not within the tolerance.

    Where all of its type are, the largest of any type; None where nothing smaller failed.
    """
    chosen = model.recommended or model.full
    failed = [p for p in model.points if p.verdict != "within" and p.bytes_per_vector < chosen.bytes_per_vector]
    walked = [point for point in failed if point in _walk(model, chosen)]
    return max(walked or failed, key=lambda point: (point.bytes_per_vector, point.scores[score]), default=None)


def worth_a_look(model: ModelOutcome, score: str) -> list[Point]:
    """The sizes whose worst-hit queries somebody will want to see, the largest first.

    They are the recommended one, the next wider and the next narrower of its type, the first that failed, and the
    front. The full width in float32 is not among them: nothing is lost there.
    """
    near = [*front(model.points, score), first_that_failed(model, score)]
    if model.recommended is not None:
        walk = _walk(model, model.recommended)
        place = walk.index(model.recommended)
        near += walk[max(place - 1, 0) : place + 2]
    looked = [point for point in model.points if point in near and point != model.full]
    return sorted(looked, key=lambda point: -point.bytes_per_vector)


def _walk(model: ModelOutcome, of: Point) -> list[Point]:
    """The sizes of the same type, the widest first."""
    return [point for point in model.points if (point.dtype, point.rescored) == (of.dtype, of.rescored)]
