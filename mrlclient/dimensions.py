"""May this model give that many dimensions, and where is the cut made: decided before any request."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mrlclient.errors import ConfigurationError, DimensionsOutOfRangeError, NotMatryoshkaError
from mrlclient.models import ModelSpec, matryoshka_models

if TYPE_CHECKING:
    from mrlclient._codes import DType

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
        dtype: The type to ask the provider for, which must come back.
    """

    dimensions: int
    requested: int | None
    received: int
    reduction: Reduction
    dtype: DType = "float32"


def resolve(
    spec: ModelSpec, dimensions: int | None, *, fetch_native: bool = False, dtype: DType = "float32"
) -> Resolution:
    """Decides how to get `dimensions` from a model; None asks for the native width.

    With `fetch_native` the full width is asked for whatever is wanted, and cut here: a cache then has every width.
    Otherwise the server makes the cut where its parameter takes that width; else the smallest width that it does take,
    and that is wide enough, is asked for and cut here. With another `dtype` than float32 that is refused: nobody here
    can cut what a server has quantised.

    Raises:
        NotMatryoshkaError: If the model has one width only and this is another.
        DimensionsOutOfRangeError: If it is not an integer of 1 to the native width; or no width at which the server
            sends `dtype`.
        ConfigurationError: If the server does not send `dtype`.
    """
    wanted = spec.native_dimensions if dimensions is None else check_width(spec, dimensions)
    if dtype != "float32" and dtype not in spec.server_dtypes:
        known = f"It sends {', '.join(spec.server_dtypes)}" if spec.server_dtypes else "It sends floats only"
        raise ConfigurationError(
            f"The catalogue knows no server that sends {dtype} of {spec.address}. {known}: leave quantization='server' "
            f"out, and {dtype} is made here."
        )
    requested = _width_to_ask_for(spec, wanted, fetch_native)
    received = spec.native_dimensions if requested is None else requested
    if received > wanted and dtype != "float32":
        widths = spec.server_dimensions if isinstance(spec.server_dimensions, tuple) else (spec.native_dimensions,)
        raise DimensionsOutOfRangeError(
            f"The server sends {dtype} of {spec.address} at {', '.join(map(str, widths))} dimensions, not at {wanted}, "
            f"and what it has quantised is not cut here. Take one of these, or leave quantization='server' out.",
            model=spec.address,
            dimensions=wanted,
            native_dimensions=spec.native_dimensions,
        )
    if received > wanted:
        return Resolution(wanted, requested, received, "client")
    reduction: Reduction = "native" if wanted == spec.native_dimensions else "server"
    return Resolution(wanted, requested, received, reduction, dtype)


def _width_to_ask_for(spec: ModelSpec, wanted: int, fetch_native: bool) -> int | None:
    """The width to ask a provider for; None where its parameter must not be sent."""
    if spec.server_dimensions is None:
        return None
    if fetch_native:
        return spec.native_dimensions
    if spec.server_dimensions == "any":
        return wanted
    return min((d for d in spec.server_dimensions if d >= wanted), default=spec.native_dimensions)


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
