"""What a sample of queries says about all the queries like them: intervals, tests, and when it says too little.

Everything is paired: a query is scored at both sizes, and what counts is the difference, so that how hard the queries
are cancels out. `docs/explanation/sweep.md` has the reasons and the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.evaluate.outcome import Loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Queries below which nothing is recommended.
MIN_QUERIES = 50
#: Of the interval that is shown of a loss.
_SHOWN = 0.95
#: The chance that as many queries as `queries_needed` says will do.
_POWER = 0.8
#: Beyond so many queries it is no advice to take more.
_MOST_QUERIES = 1_000_000
#: What a query loses that falls from the first place to the second: 1 - 1 / log2(3).
_ONE_PLACE = 1 - 1 / math.log2(3)
#: Random numbers drawn at a time.
_BLOCK = 1 << 18
#: Differences below are rounding.
_ROUNDING = 1e-12


def losses(
    values: NDArray[np.float64], *, alpha: float, flips: int, seed: int
) -> tuple[list[Loss], NDArray[np.float64]]:
    """The mean of each row, how sure it is, and what it is surely below.

    All ends are Student's, moved outward by what the lopsidedness of the losses is worth (Johnson 1978).

    Args:
        values: (p, n) losses of n queries at p points.
        alpha: The chance to be wrong that the upper bound may take.
        flips: Permutations.
        seed: Of the random numbers: all points share them.

    Returns:
        p losses, and (p,) one-sided upper bounds of confidence 1 - `alpha`.
    """
    count = values.shape[1]
    means = values.mean(axis=1)
    if count < 2:
        # One query says nothing of others.
        return [Loss(float(mean), -1.0, 1.0, 1.0) for mean in means], np.ones(len(values))
    errors, skewness = spreads(values) / math.sqrt(count), _skewness(values)
    low = means + errors * _reach((1 - _SHOWN) / 2, np.minimum(skewness, 0.0), count)
    high = means + errors * _reach((1 + _SHOWN) / 2, np.maximum(skewness, 0.0), count)
    bounds = means + errors * _reach(1 - alpha, np.maximum(skewness, _least_skewness(values)), count)
    chances = sign_flip(values, flips=flips, seed=seed)
    low, high = np.maximum(low, -1.0), np.minimum(high, 1.0)
    rows = zip(means.tolist(), low.tolist(), high.tolist(), chances.tolist(), strict=True)
    return [Loss(*row) for row in rows], np.minimum(bounds, 1.0)


def spreads(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation of each row (p, n).

    It is never less than if one query had fallen from the first place to the second: a sample in which nothing changed
    does not show that nothing ever changes, only that it is rare.
    """
    return np.asarray(np.maximum(values.std(axis=1, ddof=1), _ONE_PLACE / math.sqrt(values.shape[1])))


def _skewness(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row (p, n); 0 where nothing varies."""
    centred = values - values.mean(axis=1, keepdims=True)
    squares = centred * centred
    deviations = np.sqrt(squares.mean(axis=1))
    cubes = np.einsum("ij,ij->i", squares, centred) / values.shape[1]
    skewness = np.zeros(len(values))
    np.divide(cubes, deviations**3, out=skewness, where=deviations > _ROUNDING)
    return skewness


def _least_skewness(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the skewness of each row (p, n) is taken to be at least, where a loss must not be underestimated.

    It is that of rare losses of one size. A sample that has missed the large losses has too small a mean, spread and
    skewness, all at once: so its own skewness helps least where it is needed most.
    """
    changed = (np.abs(values) > _ROUNDING).sum(axis=1)
    return np.asarray(np.sqrt(values.shape[1] / np.maximum(changed, 1)))


def _reach(level: float, skewness: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """How many standard errors the end of an interval is from the mean of `count` values, for each skewness.

    The mean of lopsided values over its standard error is lopsided as well. The second term takes that away, up to
    terms of 1 / n (P. Hall, "The Bootstrap and Edgeworth Expansion", 1992: the expansion of a studentised mean).
    """
    quantile = _t(level, count)
    return quantile + skewness * (_leaning(quantile) / math.sqrt(count))


def _leaning(quantile: float) -> float:
    return (1 + 2 * quantile**2) / 6


def sign_flip(values: NDArray[np.float64], *, flips: int, seed: int) -> NDArray[np.float64]:
    """Chances, for each row (p, n), of a mean as far from 0 where sizes make no difference but by chance.

    Then each difference might as well have the other sign (Fisher 1935). The observed signs count as one flip, so that
    no chance is 0 (Phipson & Smyth 2010, "Permutation P-values should never be zero").
    """
    observed = np.abs(values.sum(axis=1))[:, None] - _ROUNDING
    as_far = np.ones(len(values))
    rng = np.random.default_rng(seed)
    for rows in _blocks(flips, values.shape[1]):
        signs = rng.integers(0, 2, (rows, values.shape[1])) * 2.0 - 1.0
        as_far += (np.abs(values @ signs.T) >= observed).sum(axis=1)
    return as_far / (flips + 1)


def queries_needed(values: NDArray[np.float64], *, tolerance: float, alpha: float) -> int | None:
    """Queries that would show, with a chance of 80 %, that these losses (n,) are within the tolerance.

    Returns:
        About how many; None where their mean is not within it, or so close to it that no number would do.
    """
    room = tolerance - float(values.mean())
    if room <= 0 or len(values) < 2:
        return None
    row = values[None]
    (spread,), (skewness,) = spreads(row), np.maximum(_skewness(row), _least_skewness(row))
    quantile = NormalDist().inv_cdf(1 - alpha)
    # With n queries the bound is above the mean by (reach + lean / sqrt(n)) / sqrt(n).
    reach = float(spread) * (quantile + NormalDist().inv_cdf(_POWER))
    lean = float(spread * skewness) * _leaning(quantile)
    root = (reach + math.sqrt(reach**2 + 4 * lean * room)) / (2 * room)
    needed = math.ceil(max(root**2, MIN_QUERIES))
    return needed if needed <= _MOST_QUERIES else None


def worse_than_rest(
    values: NDArray[np.float64], members: NDArray[np.bool_], *, permutations: int, seed: int
) -> NDArray[np.float64]:
    """Chances that a group loses so much more than the other queries where groups make no difference.

    Groups are drawn anew, of the same sizes, and the mean of a group is compared with that of the rest. The chances are
    corrected for the number of groups (Holm 1979).

    Args:
        values: (p, n) losses of n queries at p points.
        members: (g, n) who is in which group.
        permutations: How often groups are drawn.
        seed: Of the random numbers.

    Returns:
        (p, g).
    """
    sizes = members.sum(axis=1)
    # With the total fixed, a group is further above the rest the larger its own sum is.
    observed = values @ members.T - _ROUNDING
    as_much = np.ones_like(observed)
    rng = np.random.default_rng(seed)
    for rows in _blocks(permutations, values.shape[1] * (len(members) + 1)):
        shuffled = rng.permuted(np.tile(np.arange(values.shape[1]), (rows, 1)), axis=1)
        drawn = members[:, shuffled].transpose(1, 0, 2).reshape(rows * len(members), -1)
        sums = values @ drawn.T.astype(np.float64)
        as_much += (sums.reshape(len(values), rows, -1) >= observed[:, None, :]).sum(axis=1)
    chances = as_much / (permutations + 1)
    # A group that is empty or everybody has no rest to be compared with.
    chances[:, (sizes == 0) | (sizes == values.shape[1])] = 1.0
    return _holm(chances)


def _holm(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(chances, axis=1, kind="stable")
    factors = np.arange(chances.shape[1], 0, -1)
    corrected = np.maximum.accumulate(np.take_along_axis(chances, order, axis=1) * factors, axis=1)
    result = np.empty_like(chances)
    np.put_along_axis(result, order, np.minimum(corrected, 1.0), axis=1)
    return result


@lru_cache
def _t(level: float, count: int) -> float:
    """The quantile of Student's t for `count` values: its density becomes a power of the cosine at t = sqrt(f) tan."""
    freedom = count - 1
    angles = np.linspace(0.0, math.pi / 2, 50_001)
    heights = np.cos(angles) ** (freedom - 1)
    areas = np.concatenate(([0.0], np.cumsum(heights[1:] + heights[:-1])))
    angle = float(np.interp(abs(2 * level - 1), areas / areas[-1], angles))
    return math.copysign(math.sqrt(freedom) * math.tan(angle), level - 0.5)


def _blocks(total: int, width: int) -> Iterator[int]:
    """`total` rows in blocks: how many rows each has."""
    step = max(_BLOCK // max(width, 1), 1)
    while total > 0:
        yield min(step, total)
        total -= step
