"""Rows of groups and of queries: where the marks of a row stand, in percent of an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mrlclient.evaluate._words import number
from mrlclient.evaluate.outcome import Group, Query
from mrlclient.evaluate.report.chart import decimals, round_ticks

#: Steps of an axis above the rows.
_STEPS = 4


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis.

    Attributes:
        values: Its ticks, in rising order, from end to end.
    """

    values: Sequence[float]

    def at(self, value: float) -> float:
        """Where a value stands, in percent."""
        low, high = self.values[0], self.values[-1]
        return round(100 * (value - low) / (high - low), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Where each tick stands, and its label."""
        digits = decimals(self.values)
        return [(self.at(value), number(value, digits)) for value in self.values]


def loss_axis(groups: Sequence[Group]) -> Axis:
    """The axis of the groups' losses and their intervals."""
    return _axis(end for group in groups for end in (group.loss.low, group.loss.high))


def score_axis(queries: Sequence[Query]) -> Axis:
    """The axis of the queries' scores."""
    return _axis(score for query in queries for score in (query.before, query.after))


def _axis(values: Iterable[float]) -> Axis:
    ends = [0.0, *values]
    return Axis(round_ticks(min(ends), max(ends), count=_STEPS))
