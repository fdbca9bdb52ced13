"""Whether the numbers of vectors are sorted by variance: then the vectors of any model look nested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.evaluate._nesting import rotate

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: At or below this, variances fall within octaves: so many standard deviations are hardly chance.
SORTED = -2.0
#: Below this, the numbers have been made uncorrelated.
DECORRELATED = 0.7
#: An octave with fewer numbers is left out.
_MIN_OCTAVE = 16


@dataclass(frozen=True, slots=True)
class Order:
    """How the variances of the numbers are ordered, and how the numbers correlate.

    Attributes:
        trend: Spearman's correlation of variance and position within each octave (0 to 16, 16 to 32, 32 to 64, ...), in
            standard deviations of chance, combined by Stouffer's method. Matryoshka training raises whole blocks of
            numbers and leaves the trend within chance, from -2 to 2. If the numbers are sorted by variance, even only
            the first ones, as principal components are, it is far below.
        correlation: The mean squared correlation of two numbers, minus what chance gives for so many texts, relative to
            the same after a random rotation. It is near 1 for a trained model, and near 0 for principal components.
    """

    trend: float
    correlation: float

    @property
    def is_by_variance(self) -> bool:
        """Whether what looks like nesting may come from sorting or PCA, which work on any model's vectors."""
        return self.trend <= SORTED or self.correlation <= DECORRELATED

    @property
    def is_decorrelated(self) -> bool:
        """Whether the numbers are uncorrelated, like principal components."""
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
