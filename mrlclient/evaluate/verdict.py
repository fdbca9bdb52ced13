"""What a probe found: the verdict, and the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mrlclient.errors import ConfigurationError
from mrlclient.evaluate._nesting import MIN_GAIN, MIN_Z, NEIGHBOURS, NO_GAIN, WidthStatistics
from mrlclient.evaluate._order import Order
from mrlclient.evaluate._plain import to_plain
from mrlclient.models import ModelSpec

Verdict = Literal["matryoshka", "not matryoshka", "undecided"]

#: With fewer distinct texts nothing is decided.
MIN_TEXTS = 100
#: Nesting has to be seen at this many widths.
MIN_NESTED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """Whether vectors are nested, and the evidence.

    Attributes:
        verdict: `"matryoshka"`, `"not matryoshka"` or `"undecided"`.
        reason: Why, in a sentence or two.
        widths: The widths at which the first numbers are better than chance, narrowest first.
        statistics: What each measured width keeps, narrowest first.
        order: How the variances are ordered; None if nothing was measured.
        dimensions: The full width.
        texts: How many texts were measured, without duplicates.
        duplicates: How many texts were left out because another had the same vector.
        draws: How many random draws a prefix was compared with, at each width.
        rotations: How many random rotations it was compared with.
        seed: The random seed: the same seed gives the same figures.
        model: The model as it was declared; None if vectors were given.
    """

    verdict: Verdict
    reason: str
    widths: tuple[int, ...]
    statistics: tuple[WidthStatistics, ...] = field(repr=False)
    order: Order | None
    dimensions: int
    texts: int
    duplicates: int
    draws: int
    rotations: int
    seed: int
    model: ModelSpec | None = field(default=None, repr=False)

    def spec(self, declared: ModelSpec | None = None) -> ModelSpec:
        """The model's spec with `matryoshka=True`, and with the evidence in `sources`.

        Using it below the narrowest width at which nesting was seen will warn.

        Args:
            declared: The model that the vectors came from, if vectors were probed instead of an embedder.

        Raises:
            ConfigurationError: If the verdict is not `"matryoshka"`, or the model is unknown or of another width.
        """
        base = self.model if declared is None else declared
        if self.verdict != "matryoshka":
            raise ConfigurationError(f"There is no evidence to declare it Matryoshka: {self.verdict}. {self.reason}")
        if base is None:
            raise ConfigurationError("Vectors do not say which model made them. Pass its ModelSpec to spec().")
        if base.native_dimensions != self.dimensions:
            raise ConfigurationError(
                f"{base.address} has {base.native_dimensions} dimensions, and vectors of {self.dimensions} were probed."
            )
        evidence = self.evidence()
        return replace(
            base,
            matryoshka=True,
            smallest_evaluated=self.widths[0],
            sources={**base.sources, "matryoshka": evidence, "smallest_evaluated": evidence},
        )

    def evidence(self) -> str:
        """The evidence in one line."""
        nested = [each for each in self.statistics if each.dimensions in self.widths]
        figures = "; ".join(
            f"{each.dimensions}: {each.prefix:.3f} against {max(each.random, each.rotated):.3f}, "
            f"z {min(each.z_random, each.z_rotated):.1f}"
            for each in nested
        )
        return (
            f"mrlclient probe, {self.texts} texts, seed {self.seed}: share of {NEIGHBOURS} nearest neighbours kept by "
            f"a prefix, against random numbers and rotations, at {figures}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, ready for JSON."""
        plain: dict[str, Any] = to_plain(self)
        return plain | {
            "statistics": [each.to_dict() for each in self.statistics],
            "model": None if self.model is None else self.model.address,
        }


def decide(
    statistics: Sequence[WidthStatistics], order: Order | None, texts: int
) -> tuple[Verdict, str, tuple[int, ...]]:
    """The verdict, the reason, and the widths at which nesting was seen."""
    nested = tuple(each.dimensions for each in statistics if each.nested)
    if texts < MIN_TEXTS:
        return "undecided", f"{texts} different texts are too few: give {MIN_TEXTS} at least, better 1,000.", ()
    if len(statistics) < MIN_NESTED or order is None:
        return "undecided", "The vectors are too narrow for two widths to be compared.", ()
    if len(nested) >= MIN_NESTED and order.is_by_variance:
        how = (
            "hardly correlated, as principal components are"
            if order.is_decorrelated
            else "sorted by variance one by one, as no training leaves them"
        )
        return (
            "undecided",
            f"The first numbers are better than chance, but the numbers are {how}. An ordinary model whose vectors "
            "were put through PCA, or sorted, looks like that: it is no sign of training. What such a prefix keeps, it "
            "keeps on texts like those that it was fitted on.",
            nested,
        )
    if len(nested) >= MIN_NESTED:
        return (
            "matryoshka",
            f"At {_listed(nested)} dimensions the first numbers keep more neighbours than all draws and rotations, by "
            f"{MIN_Z:g} standard deviations and {MIN_GAIN:g} at least; and not because they are sorted by variance.",
            nested,
        )
    if not nested and all(each.gain_bound < NO_GAIN for each in statistics):
        return (
            "not matryoshka",
            f"At no width do the first numbers keep more than any others would; an advantage of {NO_GAIN:g} can be "
            "ruled out.",
            (),
        )
    if nested:
        return (
            "undecided",
            f"Only at {_listed(nested)} are the first numbers better than chance; one width is no nesting. "
            "More texts may show others.",
            nested,
        )
    return "undecided", "No advantage of the first numbers is clear, and none can be ruled out. Give more texts.", ()


def _listed(widths: Sequence[int]) -> str:
    *others, last = map(str, widths)
    return f"{', '.join(others)} and {last}" if others else last
