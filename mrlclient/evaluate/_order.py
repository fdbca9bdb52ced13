"""Whether an order of numbers is that of their variances: then any model's vectors look nested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.evaluate._nesting import rotate

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Below this, numbers within octaves fall in variance one by one: so many standard deviations are hardly chance.
SORTED = -2.0
#: Below this, the numbers have been made uncorrelated.
DECORRELATED = 0.7
#: An octave has to hold as many numbers to have an order.
_MIN_OCTAVE = 16


@dataclass(frozen=True, slots=True)
class Order:
    """How the variances of the numbers lie, and how the numbers hang together.

    Attributes:
        trend: Spearman's correlation of a number's variance with its place within octaves (0 to 16, 16 to 32, 32 to
            64, ...), each in standard deviations of chance, put together by Stouffer's method. Training with prefixes
            lifts whole blocks of numbers, and leaves it within chance, at -2 to 2; where the numbers are sorted by
            variance, if only the first ones, as principal components are, it is far below.
        correlation: The mean squared correlation of two numbers, less what chance makes of so many texts, relative to
            the same after a random rotation. A trained model has it near 1; principal components, near 0.
    """

    trend: float
    correlation: float

    @property
    def is_by_variance(self) -> bool:
        """Whether what looks like nesting can be had from any model's vectors, by sorting or by PCA."""
        return self.trend <= SORTED or self.correlation <= DECORRELATED

    @property
    def is_decorrelated(self) -> bool:
        """Whether the numbers are like principal components."""
        return self.correlation <= DECORRELATED


def order_of(vectors: NDArray[np.float32], chance: np.random.Generator) -> Order:
    """The order of some vectors' numbers.

    Args:
        vectors: (n, D) float32.
        chance: Where randomness comes from.
    """
    variances = vectors.var(axis=0, dtype=np.float64)
    after = _squared_correlation(rotate(vectors, chance))
    return Order(_trend(variances), _squared_correlation(vectors) / after if after > 0 else 0.0)


def _trend(variances: NDArray[np.float64]) -> float:
    width = len(variances)
    edges = [*(2**power for power in range(4, 32) if 2**power < width), width]
    octaves = [variances[start:end] for start, end in zip([0, *edges], edges, strict=False)]
    octaves = [octave for octave in octaves if len(octave) >= _MIN_OCTAVE]
    # The standard deviation of the coefficient is (n - 1)^-1/2 where the order is chance.
    deviations = [_spearman(octave) * np.sqrt(len(octave) - 1) for octave in octaves]
    return float(np.sum(deviations) / np.sqrt(max(len(octaves), 1)))


def _spearman(values: NDArray[np.float64]) -> float:
    """The rank correlation of values with their places."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def _squared_correlation(vectors: NDArray[np.float32]) -> float:
    """The mean squared correlation of two different numbers, less what is chance; 0 where that is all."""
    centred = vectors - vectors.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    # A number that never varies correlates with nothing.
    varies = lengths > 1e-6 * lengths.max(initial=0.0)
    centred = centred[:, varies] / lengths[varies]
    count, width = centred.shape
    if width < 2:
        return 0.0
    # The squares of a matrix's inner products sum up alike on either side: the smaller one is made.
    products = centred.T @ centred if width <= count else centred @ centred.T
    total = float(np.einsum("ij,ij->", products, products, dtype=np.float64)) - width
    return float(max(total / (width * (width - 1)) - 1 / (count - 1), 0.0))
