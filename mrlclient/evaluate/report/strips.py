"""Rows of groups and of queries: where the marks of a row stand, in percent of an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mrlclient.evaluate._words import interval, loses, number
from mrlclient.evaluate.outcome import Group, Query
from mrlclient.evaluate.report.chart import decimals, round_ticks

#: Steps of an axis above the rows.
_STEPS = 4


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group: `base` is in percent of a perfect score, the others in percent of the axis of losses."""

    group: Group
    base: float
    mean: float
    low: float
    high: float
    base_words: str
    loss_words: str


@dataclass(frozen=True, slots=True)
class QueryRow:
    """A query, its scores in percent of their axis."""

    query: Query
    before: float
    after: float
    words: str


Row = TypeVar("Row", GroupRow, QueryRow)


@dataclass(frozen=True, slots=True)
class Rows(Generic[Row]):
    """Rows over one axis.

    Attributes:
        ticks: Places on the axis with their labels.
        zero: The place of nothing.
        rows: From top to bottom.
    """

    ticks: tuple[tuple[float, str], ...]
    zero: float
    rows: tuple[Row, ...]


def of_groups(groups: Sequence[Group]) -> Rows[GroupRow]:
    """The groups, the one that loses most first."""
    ordered = sorted(groups, key=lambda group: -group.loss.mean)
    ticks, across = _axis([0.0, *(end for group in groups for end in (group.loss.low, group.loss.high))])
    return Rows(
        ticks,
        across(0.0),
        tuple(
            GroupRow(
                group=group,
                base=round(100 * group.base, 2),
                mean=across(group.loss.mean),
                low=across(group.loss.low),
                high=across(group.loss.high),
                base_words=number(group.base),
                loss_words=f"{loses(group.loss.mean)} ({interval(group.loss)})",
            )
            for group in ordered
        ),
    )


def of_queries(queries: Sequence[Query]) -> Rows[QueryRow]:
    """The queries, in their order."""
    ticks, across = _axis([0.0, *(score for query in queries for score in (query.before, query.after))])
    return Rows(
        ticks,
        across(0.0),
        tuple(
            QueryRow(
                query=query,
                before=across(query.before),
                after=across(query.after),
                words=f"{number(query.before)} → {number(query.after)}, {loses(query.before - query.after)}",
            )
            for query in queries
        ),
    )


def _axis(values: Sequence[float]) -> tuple[tuple[tuple[float, str], ...], Callable[[float], float]]:
    ticks = round_ticks(min(values), max(values), count=_STEPS)

    def across(value: float) -> float:
        return round(100 * (value - ticks[0]) / (ticks[-1] - ticks[0]), 2)

    return tuple((across(tick), number(tick, decimals(ticks))) for tick in ticks), across
