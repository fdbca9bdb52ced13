"""Cutting and normalising: pure numpy, (n, D) in, (n, d) float32 out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mrlclient.errors import DimensionsOutOfRangeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows handled at a time, so that a block of them stays in the processor's cache.
_BLOCK_ROWS = 256

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
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS]
        kept = out[start : start + _BLOCK_ROWS]
        if center:
            np.subtract(block[:, :dimensions], block.mean(axis=1, dtype=np.float32, keepdims=True), out=kept)
        else:
            kept[...] = block[:, :dimensions]
        l2_normalize(kept, out=kept)
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
    with np.errstate(over="ignore", under="ignore"):
        squares = np.vecdot(vectors, vectors)
        # Squares of very large or very small numbers leave float32's range: such rows are scaled by their peak first.
        extreme = ~((squares > _SAFE_SQUARES[0]) & (squares < _SAFE_SQUARES[1]))
        if extreme.any():
            peaks = np.abs(vectors[extreme]).max(axis=1, initial=0.0)
            peaks[peaks == 0.0] = 1.0
            scaled = vectors.copy()
            scaled[extreme] /= peaks[:, None]
            vectors = scaled
            squares = np.vecdot(vectors, vectors)
            squares[squares == 0.0] = 1.0
        rows: NDArray[np.float32] = np.divide(vectors, np.sqrt(squares)[:, None], out=out)
        return rows


def unusable_rows(vectors: NDArray[np.float32], *, unit_length: bool = False) -> dict[int, str]:
    """The rows that cannot be used, in order, and why; empty where all can.

    Args:
        vectors: (n, d) float32.
        unit_length: Whether the rows are unit vectors, or prefixes of such: none is longer than 1, give or take a
            server's rounding, and none has all but vanished. Bytes in the wrong order make numbers of any magnitude.
    """
    problems: dict[int, str] = {}
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.vecdot(vectors, vectors)
    if unit_length:
        doubtful = ~((squares > _UNIT_SQUARES[0]) & (squares < _UNIT_SQUARES[1]))
    else:
        # Between these no number is infinite or NaN, and not all are zero.
        doubtful = ~((squares > _SAFE_SQUARES[0]) & (squares < _SAFE_SQUARES[1]))
    for row in np.flatnonzero(doubtful).tolist():
        if not np.isfinite(vectors[row]).all():
            problems[row] = "not finite"
        elif not vectors[row].any():
            problems[row] = "all zero"
        elif unit_length:
            length = float(np.linalg.norm(vectors[row].astype(np.float64)))
            problems[row] = f"of length {length:.3g}, where the model's are of length 1"
    return problems
