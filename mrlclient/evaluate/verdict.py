"""What a probe found: the verdict, and what it rests on."""

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

#: Distinct texts without which nothing is decided.
MIN_TEXTS = 100
#: Widths at which nesting has to be seen.
MIN_NESTED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """Whether vectors are nested, and what that rests on.

    Attributes:
        verdict: `"matryoshka"`, `"not matryoshka"` or `"undecided"`.
        reason: Why, in a sentence or two.
        widths: The widths at which the first numbers are better than chance, narrowest first.
        statistics: For each width that was looked at, what it keeps; narrowest first.
        order: How the numbers' variances lie; None where nothing was measured.
        dimensions: The full width.
        texts: Texts that were looked at, duplicates left out.
        duplicates: Texts that were left out, for their vector was there already.
        draws: Random draws that a prefix was compared with, at each width.
        rotations: And random rotations.
        seed: What those were drawn with: the same gives the same figures.
        model: The model, as it was declared; None where vectors were given.
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
        """The model, declared to be Matryoshka, with the evidence in `sources`.

        Narrower widths than the narrowest at which nesting was seen will warn.

        Args:
            declared: The model that the vectors came from, where vectors were probed and not an embedder.

        Raises:
            ConfigurationError: If the verdict is another, or the model is not known or of another width.
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
        """What was measured, in one line."""
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
        """All of it as plain values, as JSON has them."""
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
