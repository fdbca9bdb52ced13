"""Cutting and normalising: pure numpy, (n, D) in, (n, d) float32 out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.errors import DimensionsOutOfRangeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Numbers handled at a time, so that a block of them stays in the processor's cache.
_BLOCK = 524_288

#: Squared lengths between these are exact enough in float32.
_SAFE_SQUARES = (1e-20, 1e30)

#: Squared lengths of what may be a unit vector or a prefix of one.
_UNIT_SQUARES = (1e-12, 1.21)


def truncate_dimensions(
    vectors: NDArray[np.float32], dimensions: int, *, center: bool = False, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Cuts Matryoshka vectors to their first `dimensions` numbers and makes each row unit length again.

    Only right for a model trained for it (Kusupati et al. 2022, arXiv 2205.13147): whether the model is, is for the
    caller to know. `Embedder` refuses the others.

    Args:
        vectors: (n, D) float32, D >= `dimensions`. Not changed.
        dimensions: The width to keep.
        center: Subtract each row's mean over all D first. Nomic Embed v1.5 needs it: its recipe is a layer norm without
            affine before the slice, and of that norm only the centring outlives the final L2. Wrong on vectors that
            were cut already.
        out: (n, dimensions) float32 to write into; a new matrix otherwise.

    Returns:
        (n, dimensions) float32, C-contiguous, unit rows. An all-zero row stays zero.

    Raises:
        DimensionsOutOfRangeError: If the vectors are not that wide.
    """
    if vectors.ndim != 2 or not 1 <= dimensions <= vectors.shape[1]:
        raise DimensionsOutOfRangeError(
            f"dimensions={dimensions!r} cannot be cut from an array of shape {vectors.shape}: take (n, D) and 1 to D.",
            dimensions=dimensions,
        )
    if out is None:
        out = np.empty((len(vectors), dimensions), dtype=np.float32)
    with np.errstate(over="ignore", under="ignore"):
        for block, kept in zip(_blocks(vectors, dimensions), _blocks(out, dimensions), strict=True):
            if center:
                np.subtract(block[:, :dimensions], block.mean(axis=1, dtype=np.float32, keepdims=True), out=kept)
            else:
                kept[...] = block[:, :dimensions]
            _normalize(kept)
    return out


def l2_normalize(vectors: NDArray[np.float32], *, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Scales each row to unit length.

    Args:
        vectors: (n, d) float32. Not changed unless it is also `out`.
        out: (n, d) float32 to write into; a new matrix otherwise.

    Returns:
        (n, d) float32, unit rows. An all-zero row stays zero.
    """
    if vectors.dtype.kind != "f":
        vectors = vectors.astype(np.float32)
    if out is None:
        out = np.empty(vectors.shape, dtype=vectors.dtype)
    with np.errstate(over="ignore", under="ignore"):
        for block, kept in zip(_blocks(vectors), _blocks(out), strict=True):
            if out is not vectors:
                kept[...] = block
            _normalize(kept)
    return out


def normalize_usable(rows: NDArray[np.float32], *, unit_length: bool = False) -> dict[int, str]:
    """Scales each usable row to unit length, in place. What the others hold then is not said.

    Returns:
        As `unusable_rows`.
    """
    bounds = _UNIT_SQUARES if unit_length else _SAFE_SQUARES
    problems: dict[int, str] = {}
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        first = 0
        for block in _blocks(rows):
            found = _normalize(block, bounds)
            problems |= {first + row: problem for row, problem in found.items()}
            first += len(block)
    return problems


def unusable_rows(vectors: NDArray[np.float32], *, unit_length: bool = False) -> dict[int, str]:
    """The rows that cannot be used, in order, and why; empty where all can.

    Args:
        vectors: (n, d) float32.
        unit_length: Whether the rows are unit vectors, or prefixes of such: none is longer than 1, give or take a
            server's rounding, and none has all but vanished. Bytes in the wrong order make numbers of any magnitude.
    """
    bounds = _UNIT_SQUARES if unit_length else _SAFE_SQUARES
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.vecdot(vectors, vectors)
        return {} if _within(squares, bounds) else _problems(vectors, squares, bounds)


def _blocks(vectors: NDArray[np.float32], width: int | None = None) -> Sequence[NDArray[np.float32]]:
    """Some rows at a time: as many as are a block of numbers at this width."""
    step = max(_BLOCK // max(width or vectors.shape[1], 1), 1)
    if len(vectors) <= step:
        return (vectors,)
    return [vectors[start : start + step] for start in range(0, len(vectors), step)]


def _within(squares: NDArray[np.float32], bounds: tuple[float, float]) -> bool:
    """Whether all squared lengths are between the bounds; NaN is not."""
    if len(squares) == 1:
        return bool(bounds[0] < squares.item() < bounds[1])
    return len(squares) == 0 or bool(squares.min() > bounds[0] and squares.max() < bounds[1])


def _normalize(rows: NDArray[np.float32], bounds: tuple[float, float] = _SAFE_SQUARES) -> dict[int, str]:
    """Scales rows in place. Returns those whose squared lengths are not between the bounds, and why."""
    if len(rows) == 1:
        # The same, with fewer steps: a query is one row.
        row = rows[0]
        square = float(row.dot(row))
        if bounds[0] < square < bounds[1]:
            np.multiply(row, 1.0 / math.sqrt(square), out=row)
            return {}
    squares = np.vecdot(rows, rows)
    problems: dict[int, str] = {}
    # Whatever bounds there are lie within the safe ones.
    if not _within(squares, bounds):
        problems = _problems(rows, squares, bounds)
        # Squares of very large or very small numbers leave float32's range: such rows are scaled by their peak first.
        extreme = ~((squares > _SAFE_SQUARES[0]) & (squares < _SAFE_SQUARES[1]))
        scaled = rows[extreme]
        peaks = np.abs(scaled).max(axis=1, initial=0.0)
        peaks[peaks == 0.0] = 1.0
        scaled /= peaks[:, None]
        rows[extreme] = scaled
        squares[extreme] = np.vecdot(scaled, scaled)
        squares[squares == 0.0] = 1.0
    scales = np.reciprocal(np.sqrt(squares, dtype=np.float64)).astype(rows.dtype)
    np.multiply(rows, scales[:, None], out=rows)
    return problems


def _problems(
    vectors: NDArray[np.float32], squares: NDArray[np.float32], bounds: tuple[float, float]
) -> dict[int, str]:
    """Of the rows whose squared lengths are not between the bounds, those that cannot be used, and why."""
    problems: dict[int, str] = {}
    # Between the safe ones no number is infinite or NaN, and not all are zero.
    for row in np.flatnonzero(~((squares > bounds[0]) & (squares < bounds[1]))).tolist():
        if not np.isfinite(vectors[row]).all():
            problems[row] = "not finite"
        elif not vectors[row].any():
            problems[row] = "all zero"
        elif bounds is _UNIT_SQUARES:
            length = float(np.linalg.norm(vectors[row].astype(np.float64)))
            problems[row] = f"of length {length:.3g}, where the model's are of length 1"
    return problems
