"""The figures of a sweep as tables: what the charts show, for whoever cannot see them, or wants it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mrlclient.evaluate._front import front
from mrlclient.evaluate._words import (
    REFERENCES,
    VERDICTS,
    compared,
    interval,
    measure,
    number,
    p_value,
    percent,
    size,
    size_of_bytes,
)
from mrlclient.evaluate.outcome import Loss, ModelOutcome, Outcome, Point

_NONE = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        caption: What it holds.
        heads: Of the columns.
        rows: The cells; the first of each row is its head.
        words: Columns that hold words, by their place: they stand to the left, numbers to the right.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset({0})


def points_table(model: ModelOutcome, outcome: Outcome) -> Table:
    """Every size that was measured."""
    scores = list(model.full.scores)
    best = front(model.points, outcome.data.measure)
    heads = (
        "Size",
        "Bytes a vector",
        "Kept to rescore",
        "All documents",
        *map(measure, scores),
        f"Loss of {measure(outcome.data.measure)}",
        "95 % interval",
        "Surely below",
        "Verdict",
        f"Queries losing over {outcome.settings.hurt:g}",
        "Search, ms",
        "On the front",
    )
    rows = tuple(
        (
            size(point),
            f"{point.bytes_per_vector:,}",
            f"{point.rescore_bytes_per_vector:,}" if point.rescore_bytes_per_vector else _NONE,
            size_of_bytes(point.bytes_total),
            *_scores(point.scores, scores),
            number(point.loss.mean),
            interval(point.loss),
            number(point.bound),
            VERDICTS[point.verdict],
            percent(point.hurt),
            _milliseconds(point.milliseconds),
            "yes" if point in best else _NONE,
        )
        for point in model.points
    )
    return Table(f"Every size of {model.address}", heads, rows, frozenset({0, len(heads) - 4, len(heads) - 1}))


def references_table(model: ModelOutcome, outcome: Outcome) -> Table:
    """The other ways to make vectors narrow."""
    scores = list(model.full.scores)
    rows = tuple(
        (
            f"{REFERENCES[item.name]}, {item.dimensions:,}",
            *_scores(item.scores, scores),
            *_loss(item.loss),
        )
        for item in model.references
    )
    return Table(
        f"Other ways to make the vectors of {model.address} narrow, as float32",
        ("Way and dimensions", *map(measure, scores), *_loss_heads(outcome)),
        rows,
    )


def groups_table(model: ModelOutcome, outcome: Outcome) -> Table:
    """What every group loses at every size."""
    rows = tuple(
        (
            size(point),
            group.name,
            f"{group.queries:,}",
            number(group.base),
            *_loss(group.loss),
            p_value(group.p_value),
            "yes" if group.worse else _NONE,
        )
        for point in model.points
        for group in point.groups
    )
    heads = (
        "Size",
        "Group",
        "Queries",
        "Score at full",
        *_loss_heads(outcome),
        "p, more than others",
        "More than others",
    )
    return Table(f"The groups at every size of {model.address}", heads, rows, frozenset({0, 1, 8}))


def worst_table(model: ModelOutcome, point: Point) -> Table:
    """The queries that lose most at a point."""
    rows = tuple(
        (
            query.text or query.id,
            query.id,
            number(query.before),
            number(query.after),
            number(query.before - query.after),
        )
        for query in point.worst
    )
    return Table(
        f"The queries of {model.address} that lose most at {size(point)}",
        ("Query", "Name", "At full", f"At {size(point)}", "Loss"),
        rows,
        frozenset({0, 1}),
    )


def funnel_table(model: ModelOutcome, outcome: Outcome) -> Table:
    """Every setting of a search in two stages."""
    scores = list(model.full.scores)
    rows = tuple(
        (
            f"{item.depth:,} by {item.shortlist_dimensions:,}",
            size_of_bytes(item.shortlist_bytes),
            size_of_bytes(item.rescore_bytes),
            percent(item.cost),
            _milliseconds(item.milliseconds),
            _milliseconds(item.exact_milliseconds),
            *_scores(item.scores, scores),
            *_loss(item.loss),
        )
        for item in model.funnel
    )
    heads = (
        "Documents by dimensions",
        "Scanned",
        "Kept to rescore",
        "Bytes read",
        "Search, ms",
        "Exact search, ms",
        *map(measure, scores),
        *_loss_heads(outcome),
    )
    return Table(f"Searches in two stages with {model.address}", heads, rows)


def comparisons_table(outcome: Outcome) -> Table:
    """Every two models at equal bytes."""
    models = {model.address: model for model in outcome.models}
    score = outcome.data.measure

    def shown(address: str, place: int) -> str:
        point = models[address].points[place]
        return f"{address}, {size(point)}: {number(point.scores[score])}"

    rows = tuple(
        (
            f"{item.bytes_per_vector:,}",
            shown(item.first, item.first_point),
            shown(item.second, item.second_point),
            number(item.difference.mean),
            interval(item.difference),
            compared(item),
        )
        for item in outcome.comparisons
    )
    heads = ("Bytes a vector", "First", "Second", "Lost by the second", "95 % interval", "In words")
    return Table("Equal bytes against equal bytes", heads, rows, frozenset({1, 2, 5}))


def _scores(scores: Mapping[str, float], names: list[str]) -> list[str]:
    return [number(scores[name]) if name in scores else _NONE for name in names]


def _loss_heads(outcome: Outcome) -> tuple[str, ...]:
    return (f"Loss of {measure(outcome.data.measure)}", "95 % interval", "p, any loss")


def _loss(loss: Loss) -> tuple[str, ...]:
    return number(loss.mean), interval(loss), p_value(loss.p_value)


def _milliseconds(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3g}"
