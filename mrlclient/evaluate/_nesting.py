"""How many of their nearest neighbours vectors keep in a prefix, compared with as many other numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How many nearest neighbours of a text are compared.
NEIGHBOURS = 10
#: How many texts, at most, are compared by their neighbours.
ANCHORS = 250
#: Standard deviations by which a prefix has to beat the mean of what it is compared with.
MIN_Z = 4.0
#: And by how much of the overlap: what is less may be real, but would not be worth a cut.
MIN_GAIN = 0.02
#: An advantage that is surely smaller than this is called none.
NO_GAIN = 0.04
#: Rows that are rotated at a time.
_BLOCK = 128
#: One-sided 95 % of a normal distribution.
_Z95 = 1.645


@dataclass(frozen=True, slots=True)
class WidthStatistics:
    """Which share of the nearest neighbours at the full width is kept at one width.

    Attributes:
        dimensions: The width.
        prefix: The share that the first `dimensions` numbers keep.
        random: The share that as many randomly chosen numbers keep: the mean over the draws.
        random_sd: The standard deviation over the draws.
        rotated: The share that the first numbers keep after a random rotation of all vectors: the mean.
        rotated_sd: The standard deviation over the rotations.
        beaten: The share of all draws and rotations that keep less than the prefix.
        ndcg: nDCG@10 of the prefix, if there are queries with known answers. It is not part of the verdict.
        ndcg_random: The mean nDCG@10 of randomly chosen numbers. It is not part of the verdict either.
    """

    dimensions: int
    prefix: float
    random: float
    random_sd: float
    rotated: float
    rotated_sd: float
    beaten: float
    ndcg: float | None = None
    ndcg_random: float | None = None

    @property
    def gain(self) -> float:
        """How much more the prefix keeps than the better of the two baselines."""
        return self.prefix - max(self.random, self.rotated)

    @property
    def z_random(self) -> float:
        """The advantage over random numbers, in their standard deviations."""
        return _ratio(self.prefix - self.random, self.random_sd)

    @property
    def z_rotated(self) -> float:
        """The advantage over rotated vectors, in their standard deviations."""
        return _ratio(self.prefix - self.rotated, self.rotated_sd)

    @property
    def nested(self) -> bool:
        """Whether the prefix keeps clearly more than every draw and every rotation."""
        clear = min(self.z_random, self.z_rotated) >= MIN_Z and self.gain >= MIN_GAIN
        return self.beaten == 1.0 and clear

    @property
    def gain_bound(self) -> float:
        """Upper bound of the advantage over the better baseline, with 95 % confidence."""
        return min(
            self.prefix - self.random + _Z95 * self.random_sd,
            self.prefix - self.rotated + _Z95 * self.rotated_sd,
        )

    def to_dict(self) -> dict[str, Any]:
        """The statistics as plain values, ready for JSON."""
        derived = {name: getattr(self, name) for name in ("gain", "gain_bound", "z_random", "z_rotated", "nested")}
        return asdict(self) | derived


def width_statistics(
    vectors: NDArray[np.float32], widths: Sequence[int], *, draws: int, rotations: int, chance: np.random.Generator
) -> list[WidthStatistics]:
    """Compares prefixes with random numbers of the vectors and with prefixes of rotated vectors.

    Were the order of the numbers without a meaning, the first d of them would be a random draw of d like any other: the
    comparison is a permutation test over the numbers, exact whatever the texts are.

    Args:
        vectors: (n, D) float32, no two rows alike.
        widths: Less than D, narrowest first.
        draws: Random orders of the numbers. The narrower draws are the beginnings of the wider ones.
        rotations: Random rotations.
        chance: Where randomness comes from.

    Returns:
        For each width its statistics, without nDCG.
    """
    kept = _Kept(vectors, widths, chance)
    in_order = np.arange(vectors.shape[1])
    prefix = kept.by(vectors, in_order)
    drawn = np.stack([kept.by(vectors, chance.permutation(in_order)) for _ in range(draws)])
    rotated = np.stack([kept.by(rotate(vectors, chance), in_order) for _ in range(rotations)])
    return [
        WidthStatistics(
            width,
            float(prefix[i]),
            float(drawn[:, i].mean()),
            float(drawn[:, i].std(ddof=1)),
            float(rotated[:, i].mean()),
            float(rotated[:, i].std(ddof=1)),
            float(np.mean(np.concatenate([drawn[:, i], rotated[:, i]]) < prefix[i])),
        )
        for i, width in enumerate(widths)
    ]


def rotate(vectors: NDArray[np.float32], chance: np.random.Generator) -> NDArray[np.float32]:
    """The same vectors after a random rotation: lengths and angles stay, and no number means what it meant.

    Three rounds of random signs and a Hartley transform, which is orthogonal, mix every number into all others. That
    takes D log D for each row where a rotation drawn evenly from all takes D², and D³ to draw (Andoni et al. 2015,
    arXiv 1509.02897, §6).
    """
    width = vectors.shape[1]
    scale = np.float32(width**-0.5)
    signs = [chance.choice(np.array([-scale, scale]), width) for _ in range(3)]
    rotated = np.empty_like(vectors)
    # Rows that are few enough to stay near the processor through all rounds: twice as fast.
    for start in range(0, len(vectors), _BLOCK):
        rows = vectors[start : start + _BLOCK]
        for each in signs:
            waves = np.fft.rfft(rows * each, axis=1)
            # Of a real row's transform the second half mirrors the first.
            mirrored = waves[:, width - waves.shape[1] : 0 : -1]
            halves = [waves.real - waves.imag, mirrored.real + mirrored.imag]
            rows = np.hstack(halves, dtype=np.float32, casting="same_kind")
        rotated[start : start + _BLOCK] = rows
    return rotated


class _Kept:
    """What is kept of the neighbours that the full vectors have."""

    def __init__(self, vectors: NDArray[np.float32], widths: Sequence[int], chance: np.random.Generator) -> None:
        self._widths = widths
        self._anchors = np.sort(chance.choice(len(vectors), min(ANCHORS, len(vectors)), replace=False))
        self._own = np.arange(len(self._anchors)), self._anchors
        scores = vectors[self._anchors] @ vectors.T / np.linalg.norm(vectors, axis=1)
        scores[self._own] = -np.inf
        self._neighbours = np.argpartition(scores, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]

    def by(self, vectors: NDArray[np.float32], order: NDArray[np.intp]) -> NDArray[np.float64]:
        """For each width, the share that is kept by so many numbers of the vectors, taken in this order."""
        scores = np.zeros((len(self._anchors), len(vectors)), dtype=np.float32)
        cosines, squares = np.empty_like(scores), np.zeros(len(vectors), dtype=np.float32)
        shares, done = [], 0
        for width in self._widths:
            # A wider prefix is a narrower one and some more numbers: so are its inner products.
            part = vectors[:, order[done:width]]
            done = width
            scores += part[self._anchors] @ part.T
            squares += np.einsum("ij,ij->i", part, part)
            # The length of the anchor's own vector changes nothing in its ranking.
            np.multiply(scores, 1 / np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny)), out=cosines)
            cosines[self._own] = -np.inf
            of_neighbours = np.take_along_axis(cosines, self._neighbours, axis=1)
            cosines.partition(-NEIGHBOURS, axis=1)
            shares.append(float(np.mean(of_neighbours >= cosines[:, -NEIGHBOURS, None])))
        return np.array(shares)


def _ratio(difference: float, sd: float) -> float:
    if sd > 0:
        return difference / sd
    return 0.0 if difference == 0 else float(np.copysign(np.inf, difference))
