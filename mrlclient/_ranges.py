"""Which numbers the codes of int8 and uint8 stand for, and how that is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient._codes import SCALED, DType, finite_blocks, float_rows
from mrlclient.errors import ConfigurationError
from mrlclient.models import is_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Different vectors that a limit may be found with, at least. With the room below, fewer leave queries outside.
MIN_SAMPLE = 100
#: How much further a limit reaches than the largest number of its sample.
_HEADROOM = 1.25


@dataclass(frozen=True, slots=True)
class Ranges:
    """Which numbers the codes of int8 and uint8 stand for. Store it with the codes: `dataclasses.asdict` is plain.

    Attributes:
        limit: The number that the code 127 stands for; -127 is -`limit`, whatever the dimension.
        dimensions: The width it was found at. Cut and scaled to unit length, the numbers of a vector are larger.

    Raises:
        ConfigurationError: If these are no positive number and no width.
    """

    limit: float
    dimensions: int

    def __post_init__(self) -> None:
        number = isinstance(self.limit, int | float | np.floating) and not isinstance(self.limit, bool)
        # Beyond, float32 has no room for what it is multiplied with.
        if not number or not 1e-30 < self.limit < 1e30:
            raise ConfigurationError(f"limit must be a positive number, not {self.limit!r}.")
        if not is_width(self.dimensions):
            raise ConfigurationError(f"dimensions must be a positive integer, not {self.dimensions!r}.")
        object.__setattr__(self, "limit", float(self.limit))


def calibrate(sample: NDArray[np.floating[Any]]) -> Ranges:
    """Finds the ranges of int8 and uint8 for a model, from vectors of texts like those to come, at the width to come.

    The limit is a quarter above the largest number of the sample, so that hardly any number of another text is
    outside.

    Args:
        sample: (n, d) float32 or float16, with 100 different rows or more.

    Raises:
        ConfigurationError: If they are fewer, all zero, or not finite.
    """
    vectors = float_rows(sample, "sample")
    distinct: set[bytes] = set()
    for row in vectors:
        distinct.add(row.tobytes())
        if len(distinct) == MIN_SAMPLE:
            break
    else:
        raise ConfigurationError(
            f"{len(distinct)} different vectors are too few to find the ranges of int8 and uint8 with: others would "
            f"be outside. Take {MIN_SAMPLE} or more, of texts like those to come, or give the ranges that you have."
        )
    largest = max(float(np.abs(block).max()) for _, block in finite_blocks(vectors, "sample"))
    if largest == 0.0:
        raise ConfigurationError("The sample is all zero: it has no ranges.")
    return Ranges(largest * _HEADROOM, vectors.shape[1])


def check_ranges(dtype: DType, dimensions: int, ranges: object) -> None:
    """Refuses ranges that are missing, not needed, or for another width."""
    if dtype not in SCALED:
        if ranges is not None:
            raise ConfigurationError(f"{dtype} has no ranges: they are for int8 and uint8.")
    elif not isinstance(ranges, Ranges):
        what = "They are missing" if ranges is None else f"They are a Ranges, not {type(ranges).__name__}"
        raise ConfigurationError(f"{dtype} needs its ranges. {what}: ranges=calibrate(sample).")
    elif ranges.dimensions != dimensions:
        raise ConfigurationError(
            f"These ranges were calibrated at {ranges.dimensions} dimensions, and the vectors have {dimensions}: their "
            f"numbers are of another size. Calibrate with vectors of {dimensions}."
        )
