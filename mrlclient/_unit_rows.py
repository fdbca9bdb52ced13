"""Rows that a search can use: unit vectors of plain floats."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient.errors import ConfigurationError
from mrlclient.result import EmbeddingResult
from mrlclient.vectors import truncate_dimensions, unusable_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Numbers that are handled at a time, so that they stay in the processor's cache.
BLOCK = 196_608

#: How far the squared length of a unit vector may be from 1: float16 rounds by less.
_TOLERANCE = 0.01


def floats(vectors: object, what: str) -> NDArray[Any]:
    """The vectors as a plain array of float32 or float16.

    Raises:
        ConfigurationError: If they are none.
    """
    array: Any = vectors.embeddings if isinstance(vectors, EmbeddingResult) else vectors
    plain = isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)
    if not plain or array.dtype not in (np.float32, np.float16):
        kind = array.dtype if plain else type(array).__name__
        raise ConfigurationError(
            f"{what} must be a numpy array of float32 or float16, not of {kind}: np.asarray({what}, dtype=np.float32)."
        )
    return np.asarray(array)


def cut_unit_rows(vectors: NDArray[Any], dimensions: int, what: str, *, center: bool) -> NDArray[np.float32]:
    """The prefixes of unit rows, scaled to unit length.

    Raises:
        ConfigurationError: If a row is not of unit length, or has no direction at that width.
    """
    prefixes = np.empty((len(vectors), dimensions), dtype=np.float32)
    for start, block in _blocks(vectors):
        check_unit(block, what, start)
        truncate_dimensions(block, dimensions, center=center, out=prefixes[start : start + len(block)])
    for row, problem in unusable_rows(prefixes).items():
        raise ConfigurationError(
            f"Row {row} of {what} is {problem} in its first {dimensions} dimensions: it has no direction there. "
            f"Take more shortlist_dimensions."
        )
    return prefixes


def check_unit(vectors: NDArray[Any], what: str, numbers: int | NDArray[np.intp] = 0) -> None:
    """Refuses rows that are not of unit length.

    Args:
        vectors: (n, D).
        what: Whose rows they are.
        numbers: Their numbers there, or the first of them.

    Raises:
        ConfigurationError: If one is not.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.vecdot(vectors, vectors)
        bad = np.flatnonzero(~(np.abs(squares - 1) <= _TOLERANCE))
    if not len(bad):
        return
    row = int(bad[0])
    number = numbers + row if isinstance(numbers, int) else int(numbers[row])
    if not np.isfinite(vectors[row]).all():
        raise ConfigurationError(f"Row {number} of {what} is not finite: no direction. Leave such rows out.")
    length = float(np.linalg.norm(vectors[row].astype(np.float64)))
    raise ConfigurationError(f"Row {number} of {what} is of length {length:.3g}, not 1: l2_normalize({what}).")


def positive(value: object, name: str) -> int:
    """A positive integer.

    Raises:
        ConfigurationError: If it is none.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what is no integer is refused right here
    except TypeError:
        number = 0
    if isinstance(value, bool) or number < 1:
        raise ConfigurationError(f"{name} must be a positive integer, not {value!r}.")
    return number


def _blocks(vectors: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Some rows at a time as float32, and the number of the first of them."""
    step = max(BLOCK // vectors.shape[1], 1)
    for start in range(0, len(vectors), step):
        yield start, vectors[start : start + step].astype(np.float32, copy=False)
