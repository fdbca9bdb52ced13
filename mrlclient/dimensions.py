"""May this model give that many dimensions, and where is the cut made: decided before any request."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mrlclient.errors import DimensionsOutOfRangeError, NotMatryoshkaError
from mrlclient.models import ModelSpec, matryoshka_models

Reduction = Literal["native", "server", "client"]
OnNarrow = Literal["error", "warn", "allow"]
#: What callers may pass as `dimensions`.
Dimensions = int | Sequence[int] | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a width is had from a model.

    Attributes:
        dimensions: The width that the caller gets.
        requested: The width to ask the provider for; None where its parameter must not be sent.
        received: The width that must come back.
        reduction: Where the cut is made: `"native"` (none), `"server"` or `"client"`.
    """

    dimensions: int
    requested: int | None
    received: int
    reduction: Reduction


def resolve(spec: ModelSpec, dimensions: int | None, *, fetch_native: bool = False) -> Resolution:
    """Decides how to get `dimensions` from a model; None asks for the native width.

    With `fetch_native` the full width is asked for whatever is wanted, and cut here: a cache then has every width.
    Otherwise the server makes the cut where its parameter takes that width; else the smallest width that it does take,
    and that is wide enough, is asked for and cut here.

    Raises:
        NotMatryoshkaError: If the model has one width only and this is another.
        DimensionsOutOfRangeError: If it is not an integer of 1 to the native width.
    """
    wanted = spec.native_dimensions if dimensions is None else check_width(spec, dimensions)
    if spec.server_dimensions is None:
        reduction: Reduction = "native" if wanted == spec.native_dimensions else "client"
        return Resolution(wanted, None, spec.native_dimensions, reduction)
    if fetch_native:
        requested = spec.native_dimensions
    elif spec.server_dimensions == "any":
        requested = wanted
    else:
        requested = min((d for d in spec.server_dimensions if d >= wanted), default=spec.native_dimensions)
    if requested > wanted:
        return Resolution(wanted, requested, requested, "client")
    return Resolution(wanted, requested, requested, "native" if wanted == spec.native_dimensions else "server")


def check_width(spec: ModelSpec, dimensions: object) -> int:
    """`dimensions` as an int that this model can give.

    Raises:
        NotMatryoshkaError: See `resolve`.
        DimensionsOutOfRangeError: See `resolve`.
    """
    native = spec.native_dimensions

    def out_of_range(problem: str) -> DimensionsOutOfRangeError:
        return DimensionsOutOfRangeError(
            f"dimensions={dimensions!r} {problem}. {spec.address} gives "
            + (f"1 to {native}." if spec.matryoshka else f"{native} only."),
            model=spec.address,
            dimensions=dimensions,
            native_dimensions=native,
        )

    try:
        width = operator.index(dimensions)  # type: ignore[arg-type]  # what is no integer is refused right here
    except TypeError:
        raise out_of_range("is not an integer") from None
    if isinstance(dimensions, bool):
        raise out_of_range("is not an integer")
    if width < 1:
        raise out_of_range("is not positive")
    if width != native and not spec.matryoshka:
        others = [f"{other.name} (up to {other.native_dimensions})" for other in matryoshka_models(spec.provider)]
        raise NotMatryoshkaError(
            f"{spec.address} is not a Matryoshka model: cutting its vectors to {width} would damage search quality "
            f"without a sign. Its only width is {native}: leave dimensions out."
            + (
                f" Matryoshka models of {spec.provider}: {', '.join(others)}."
                if others
                else " Where nobody says whether it is one, 'mrlclient probe' measures it."
            ),
            model=spec.address,
            dimensions=width,
            native_dimensions=native,
        )
    if width > native:
        raise out_of_range("is wider than the model")
    return width


def check_widths(spec: ModelSpec, dimensions: Dimensions) -> list[int]:
    """All widths asked for, widest first; the native width for None.

    Raises:
        NotMatryoshkaError: See `resolve`; any one of the widths is enough.
        DimensionsOutOfRangeError: See `resolve`; also for an empty sequence.
    """
    if dimensions is None:
        return [spec.native_dimensions]
    if isinstance(dimensions, Sequence) and not isinstance(dimensions, str | bytes):
        if not dimensions:
            raise DimensionsOutOfRangeError(
                "dimensions is an empty list. Name at least one width, or leave it out for the native one.",
                model=spec.address,
                dimensions=(),
                native_dimensions=spec.native_dimensions,
            )
        return sorted({check_width(spec, d) for d in dimensions}, reverse=True)
    return [check_width(spec, dimensions)]


def narrowness(spec: ModelSpec, dimensions: int) -> str | None:
    """What to say where `dimensions` is narrower than the authors evaluated; None where it is not."""
    smallest = spec.smallest_evaluated
    if smallest is None or dimensions >= smallest:
        return None
    scores = ", ".join(f"{score:g} at {d}" for d, score in spec.scores)
    return (
        f"{spec.address} at {dimensions} dimensions: the narrowest width that its authors evaluated is {smallest}"
        + (f" ({spec.score_name}: {scores})" if scores else "")
        + ". Measure it on your own data, or pass on_narrow='allow'."
    )
