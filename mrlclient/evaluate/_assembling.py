"""From measurements to an outcome: losses with their certainty, groups, worst queries, models side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, groupby
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.evaluate._measuring import Measured, Size
from mrlclient.evaluate._recommending import alpha, recommend, verdicts
from mrlclient.evaluate._references import FunnelScores
from mrlclient.evaluate._scoring import Scores, means
from mrlclient.evaluate.loading import SearchData
from mrlclient.evaluate.outcome import (
    Comparison,
    DataSet,
    FunnelSetting,
    Group,
    Loss,
    ModelOutcome,
    Point,
    Query,
    Reference,
    Settings,
    Verdict,
)
from mrlclient.evaluate.statistics import losses, worse_than_rest

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Queries that are shown of a point.
_WORST = 10
#: Below this chance a group counts as worse than the rest.
_SIGNIFICANT = 0.05
#: There may be many groups: each takes fewer permutations.
_GROUP_PERMUTATIONS = 2000
_FLOAT32_BYTES = 4


def model_outcome(
    measured: Measured, data: DataSet, settings: Settings, texts: SearchData, groups: Sequence[str] | None
) -> ModelOutcome:
    """What one model does."""
    sizes, spec = measured.sizes, measured.embedded.spec
    base = sizes[0].scores[data.measure]
    values = np.stack([base - size.scores[data.measure] for size in sizes])
    found, bounds = _losses(values, settings)
    # It is what all is compared with: there is no doubt about it.
    found[0], bounds[0] = Loss(0.0, 0.0, 0.0, 1.0), 0.0
    judged = _verdicts(sizes, found, bounds, data.queries, settings)
    of_groups = _groups(values, base, groups, settings)
    points = tuple(
        Point(
            dimensions=size.dimensions,
            dtype=size.dtype,
            rescored=size.rescored,
            scores=means(size.scores),
            loss=found[place],
            bound=float(bounds[place]),
            verdict=judged[place],
            hurt=float((values[place] > settings.hurt).mean()),
            bytes_per_vector=size.bytes_per_vector,
            bytes_total=size.bytes_per_vector * data.documents,
            rescore_bytes_per_vector=size.dimensions * _FLOAT32_BYTES if size.rescored else 0,
            milliseconds=size.milliseconds,
            groups=of_groups[place],
            worst=tuple(_worst(values[place], base, texts)),
        )
        for place, size in enumerate(sizes)
    )
    full = spec.native_dimensions
    of_references = _of_scores([scores for _, _, scores in measured.references], base, data, settings)
    of_funnel = _of_scores([scores for _, _, scores, *_ in measured.funnel], base, data, settings)
    return ModelOutcome(
        address=spec.address,
        native_dimensions=full,
        matryoshka=spec.matryoshka,
        smallest_evaluated=spec.smallest_evaluated,
        embedding=measured.embedded.embedding,
        points=points,
        references=tuple(
            Reference(name, width, means(scores), loss)
            for (name, width, scores), loss in zip(measured.references, of_references, strict=True)
        ),
        funnel=tuple(
            _funnel(setting, loss, full, data.documents)
            for setting, loss in zip(measured.funnel, of_funnel, strict=True)
        ),
        recommendation=recommend(points, values, data, settings, spec.smallest_evaluated),
        revision=measured.embedded.revision,
    )


def _funnel(found: FunnelScores, loss: Loss, full: int, documents: int) -> FunnelSetting:
    scanned, kept = documents * found.dimensions * _FLOAT32_BYTES, documents * full * _FLOAT32_BYTES
    return FunnelSetting(
        shortlist_dimensions=found.dimensions,
        depth=found.depth,
        scores=means(found.scores),
        loss=loss,
        shortlist_bytes=scanned,
        rescore_bytes=kept,
        cost=(scanned + found.depth * full * _FLOAT32_BYTES) / kept,
        milliseconds=found.milliseconds,
        exact_milliseconds=found.exact_milliseconds,
    )


def compare(measured: Sequence[tuple[str, Sequence[Size]]], data: DataSet, settings: Settings) -> Iterator[Comparison]:
    """Every two models at equal bytes, the largest size first, each at its best point of that size."""
    best = [(address, sizes, _best_by_bytes(sizes, data.measure)) for address, sizes in measured]
    pairs = [
        (size, first, first_best[size], second, second_best[size])
        for (first, _, first_best), (second, _, second_best) in combinations(best, 2)
        for size in sorted(first_best.keys() & second_best.keys(), reverse=True)
    ]
    if not pairs:
        return
    scores = {address: [size.scores[data.measure] for size in sizes] for address, sizes in measured}
    values = np.stack([scores[first][place] - scores[second][other] for _, first, place, second, other in pairs])
    found, _ = _losses(values, settings)
    for pair, loss in sorted(zip(pairs, found, strict=True), key=lambda each: -each[0][0]):
        yield Comparison(*pair, loss)


def _best_by_bytes(sizes: Sequence[Size], measure: str) -> dict[int, int]:
    """For each number of bytes the place of the best size."""
    best: dict[int, int] = {}
    for place, size in enumerate(sizes):
        held = best.setdefault(size.bytes_per_vector, place)
        if size.scores[measure].mean() > sizes[held].scores[measure].mean():
            best[size.bytes_per_vector] = place
    return best


def _losses(values: NDArray[np.float64], settings: Settings) -> tuple[list[Loss], NDArray[np.float64]]:
    return losses(values, alpha=alpha(settings), flips=settings.resamples, seed=settings.seed)


def _of_scores(scores: Sequence[Scores], base: NDArray[np.float64], data: DataSet, settings: Settings) -> list[Loss]:
    """The losses of other searches, against the full width."""
    if not scores:
        return []
    return _losses(np.stack([base - each[data.measure] for each in scores]), settings)[0]


def _verdicts(
    sizes: Sequence[Size], found: Sequence[Loss], bounds: NDArray[np.float64], queries: int, settings: Settings
) -> list[Verdict]:
    judged: list[Verdict] = []
    for _, walk in groupby(range(len(sizes)), key=lambda place: sizes[place].walk):
        places = list(walk)
        judged += verdicts([found[place] for place in places], bounds[places].tolist(), queries, settings.tolerance)
    # The full width is within whatever there are of queries: it is what is promised.
    return ["within", *judged[1:]]


def _groups(
    values: NDArray[np.float64], base: NDArray[np.float64], groups: Sequence[str] | None, settings: Settings
) -> list[tuple[Group, ...]]:
    """For each size, what each group loses."""
    if groups is None:
        return [()] * len(values)
    names = sorted(set(groups))
    members = np.array([[group == name for group in groups] for name in names])
    permutations = min(settings.resamples, _GROUP_PERMUTATIONS)
    chances = worse_than_rest(values, members, permutations=permutations, seed=settings.seed)
    of_group = [
        losses(values[:, rows], alpha=alpha(settings), flips=permutations, seed=settings.seed)[0] for rows in members
    ]
    return [
        tuple(
            Group(
                name=name,
                queries=int(rows.sum()),
                base=float(base[rows].mean()),
                loss=of_group[place][size] if size else Loss(0.0, 0.0, 0.0, 1.0),
                p_value=float(chances[size, place]),
                worse=bool(chances[size, place] < _SIGNIFICANT),
            )
            for place, (name, rows) in enumerate(zip(names, members, strict=True))
        )
        for size in range(len(values))
    ]


def _worst(values: NDArray[np.float64], base: NDArray[np.float64], texts: SearchData) -> Iterator[Query]:
    """The queries that lose most, the worst first."""
    for place in np.argsort(-values, kind="stable")[:_WORST]:
        if values[place] > 0:
            before = float(base[place])
            yield Query(texts.query_ids[place], before, before - float(values[place]), texts.queries[place])
