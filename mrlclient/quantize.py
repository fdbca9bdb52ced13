"""Embeddings in fewer bytes per number: float16, int8, and one bit. Pure numpy.

A vector becomes smaller with fewer numbers, or with smaller numbers. The types, and the bytes they take for d numbers::

    float32   4 d    the numbers
    float16   2 d    the numbers, to 11 bits
    int8      d      each number in steps of `limit` / 127, as -127 to 127; `Ranges` has the limit
    uint8     d      the same, + 128
    ubinary   d / 8  a bit for each number, 1 where it is above 0; eight to a byte, the first in the highest bit
    binary    d / 8  the same bytes - 128, as int8: the "offset binary" of Voyage

One limit serves all dimensions, and both sides of zero. So cosines between int8 codes are cosines of what they stand
for, and a hundred texts are enough to find the limit. A range per dimension is no better if found from all documents,
and worse if found from fewer, because queries exceed it (`docs/how-to/quantize.md` has figures).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from mrlclient._codes import (
    OFFSET,
    PACKED,
    SCALED,
    SIBLING,
    STEPS,
    STORED_AS,
    DType,
    Quantization,
    blocks,
    check_dtype,
    code_width,
    finite_blocks,
    float_rows,
    hamming,
    numbers,
    offset,
    rounded,
    scaled,
)
from mrlclient._ranges import Ranges, calibrate, check_ranges
from mrlclient._warn import warn_user
from mrlclient.errors import ClippingWarning, ConfigurationError, DimensionsOutOfRangeError
from mrlclient.models import is_width
from mrlclient.vectors import truncate_dimensions

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DType", "Quantized", "Ranges", "calibrate", "dequantize", "quantize", "scores"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Quantized:
    """Vectors in fewer bytes, and what their codes stand for.

    It has a length; `numpy.asarray(quantized)` and `quantized.codes` are what an index stores. From stored codes, make
    one with `Quantized(codes, "int8", 256, ranges)`.

    Attributes:
        codes: (n, d) in the numpy type of `dtype`; (n, d / 8) for binary and ubinary.
        dtype: The type.
        dimensions: The width of the vectors, d.
        ranges: What int8 and uint8 stand for; None for other types, and if it is not known.
        clipped: How many numbers were outside the ranges and were clipped. Not known for a server's codes.
        quantization: Who made them: `"client"`, or `"server"`, whose int8 and uint8 have no documented meaning.

    Raises:
        ConfigurationError: If these do not fit together.
    """

    codes: NDArray[Any]
    dtype: DType
    dimensions: int
    ranges: Ranges | None = None
    clipped: int = 0
    quantization: Quantization = "client"

    def __post_init__(self) -> None:
        stored_as = STORED_AS[check_dtype(self.dtype)]
        if self.quantization not in get_args(Quantization):
            raise ConfigurationError(f"quantization must be 'client' or 'server', not {self.quantization!r}.")
        if self.is_known:
            check_ranges(self.dtype, self.dimensions, self.ranges)
        elif self.ranges is not None:
            raise ConfigurationError(f"A server does not say the ranges of its {self.dtype}: leave ranges out.")
        width = code_width(self.dtype, self.dimensions)
        if not isinstance(self.codes, np.ndarray) or self.codes.dtype != stored_as:
            kind = getattr(self.codes, "dtype", type(self.codes).__name__)
            raise ConfigurationError(f"Codes of {self.dtype} are a numpy array of {np.dtype(stored_as)}, not {kind}.")
        if self.codes.ndim != 2 or self.codes.shape[1] != width:
            raise ConfigurationError(
                f"{self.dimensions} dimensions of {self.dtype} are (n, {width}) codes, not {self.codes.shape}."
            )

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one vector."""
        return bytes_per_vector(self.dtype, self.dimensions)

    @property
    def is_known(self) -> bool:
        """Whether it is known which numbers the codes stand for."""
        return self.quantization == "client" or self.dtype not in SCALED

    def check_known(self) -> None:
        """Refuses codes whose meaning is not known.

        Raises:
            ConfigurationError: If a server made them, as int8 or uint8.
        """
        if not self.is_known:
            raise ConfigurationError(
                f"Nobody says which numbers the server's {self.dtype} codes stand for: they can be compared with each "
                f"other, as they are, but not cut, scored with floats or made into others. Embed again for another "
                f"width; or without quantization='server', for floats and codes whose ranges are known."
            )

    def astype(self, dtype: DType) -> Quantized:
        """The same vectors as codes of the signed or unsigned sibling: int8 and uint8, binary and ubinary. Exact.

        Raises:
            ConfigurationError: If `dtype` is not the sibling, or a server made int8 or uint8.
                `quantize(dequantize(quantized), dtype)` makes others.
        """
        if check_dtype(dtype) == self.dtype:
            return self
        self.check_known()
        if SIBLING.get(self.dtype) != dtype:
            raise ConfigurationError(
                f"{self.dtype} is not {dtype} with an offset: quantize the vectors themselves, or if they are gone "
                f"quantize(dequantize(quantized), {dtype!r})."
            )
        return replace(self, codes=offset(self.codes), dtype=dtype)

    def at(self, dimensions: int) -> Quantized:
        """The same vectors, truncated. It is up to you to know whether the model may be truncated.

        Raises:
            DimensionsOutOfRangeError: If the vectors are not that wide; for binary and ubinary, if it is not a multiple
                of 8.
            ConfigurationError: For int8 and uint8, as each row's prefix would need a scale of its own, and all rows
                share one limit.
        """
        if not is_width(dimensions) or dimensions > self.dimensions:
            raise DimensionsOutOfRangeError(
                f"dimensions={dimensions!r} cannot be cut from {self.dimensions}: take 1 to {self.dimensions}.",
                dimensions=dimensions,
            )
        if dimensions == self.dimensions:
            return self
        if self.dtype in PACKED:
            cut = np.ascontiguousarray(self.codes[:, : code_width(self.dtype, dimensions)])
            return replace(self, codes=cut, dimensions=dimensions)
        if self.dtype in SCALED:
            self.check_known()
            raise ConfigurationError(
                f"{self.dtype} codes cannot be cut: each row's prefix has a length of its own, and they share one "
                f"limit. quantize(truncate_dimensions(dequantize(quantized), {dimensions}), {self.dtype!r}, "
                f"ranges=...) does it, with ranges calibrated at that width."
            )
        return quantize(truncate_dimensions(dequantize(self), dimensions), self.dtype)

    def __len__(self) -> int:
        return len(self.codes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.codes, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return (
            f"Quantized({len(self)} × {self.dimensions}, {self.dtype}, {self.bytes_per_vector} bytes each"
            + (f", limit={self.ranges.limit:.4g}" if self.ranges else "")
            + (f", clipped={self.clipped}" if self.clipped else "")
            + (", by the server)" if self.quantization == "server" else ")")
        )


def quantize(vectors: NDArray[np.floating[Any]], dtype: DType, ranges: Ranges | None = None) -> Quantized:
    """Quantises vectors.

    Numbers outside the ranges are clipped: `Quantized.clipped` counts them, and there is a `ClippingWarning`.

    Args:
        vectors: (n, d) float32 or float16, unit rows. Not changed.
        dtype: The type to convert to.
        ranges: Required for int8 and uint8, and only for these: the result of `calibrate`. Queries and documents may
            share them.

    Returns:
        The codes. For `"float32"` they are `vectors` itself, if it is float32.

    Raises:
        ConfigurationError: If a row is not finite, if `ranges` are missing or for another width, or for binary and
            ubinary if the width is not a multiple of 8.
    """
    vectors = float_rows(vectors, "vectors")
    dimensions = vectors.shape[1]
    check_ranges(check_dtype(dtype), dimensions, ranges)
    if dtype == "float32" and vectors.dtype == np.float32:
        for _ in finite_blocks(vectors, "vectors"):
            pass
        return Quantized(vectors, dtype, dimensions)
    codes = np.empty((len(vectors), code_width(dtype, dimensions)), dtype=STORED_AS[dtype])
    clipped = 0
    for start, block in finite_blocks(vectors, "vectors"):
        if dtype in PACKED:
            made: NDArray[Any] = np.packbits(block > 0, axis=1)
        elif ranges is not None:
            made, outside = scaled(block, ranges.limit)
            clipped += outside
        else:
            made = rounded(block, dtype, start)
        codes[start : start + len(block)] = offset(made) if dtype in OFFSET else made
    if ranges is not None and clipped:
        warn_user(
            f"{clipped} of {vectors.size} numbers are outside ±{ranges.limit:.4g} and were set to it. A few do no "
            f"harm; where they are many, calibrate again with vectors like these.",
            ClippingWarning,
        )
    return Quantized(codes, dtype, dimensions, ranges, clipped)


def dequantize(quantized: Quantized) -> NDArray[np.float32]:
    """Converts codes back to floats.

    Returns:
        (n, d) float32. Rows of int8 and uint8 have unit length except for rounding, which `l2_normalize` corrects;
        those of binary and ubinary have `d ** -0.5`, positive or negative, everywhere.

    Raises:
        ConfigurationError: If a server made them, as int8 or uint8.
    """
    vectors = np.empty((len(quantized), quantized.dimensions), dtype=np.float32)
    for start, block in blocks(quantized.codes, quantized.dimensions):
        np.multiply(
            numbers(block, quantized.dtype), np.float32(_unit(quantized)), out=vectors[start : start + len(block)]
        )
    return vectors


def scores(queries: NDArray[np.floating[Any]] | Quantized, rows: Quantized) -> NDArray[np.float32]:
    """Scores every row for every query: dot products of what the codes stand for, without a matrix of floats.

    For unit vectors these are approximately their cosines. Float queries find more than quantised ones. If queries and
    rows are bits, a score is 1 - 2 h / d for their Hamming distance h: the fastest, and coarse.

    Args:
        queries: (q, d) float32 or float16; or quantised, of any type.
        rows: Quantised rows of the same width.

    Returns:
        (q, n) float32. `search.top_k(scores, k)` finds the best.

    Raises:
        ConfigurationError: If the queries are of another width, or not finite; or if a server made the codes, as int8
            or uint8.
    """
    width = queries.dimensions if isinstance(queries, Quantized) else float_rows(queries, "queries").shape[1]
    if width != rows.dimensions:
        raise ConfigurationError(f"Queries of {width} dimensions cannot be scored with rows of {rows.dimensions}.")
    if isinstance(queries, Quantized) and queries.dtype in PACKED and rows.dtype in PACKED:
        distances = hamming(queries.astype("ubinary").codes, rows.astype("ubinary").codes)
        return 1 - distances.astype(np.float32) * np.float32(2 / width)
    if isinstance(queries, Quantized):
        asked = dequantize(queries)
    else:
        for _ in finite_blocks(queries, "queries"):
            pass
        asked = np.asarray(queries, dtype=np.float32)
    # The rows' scale is the queries' to bear: they are few.
    asked = asked * np.float32(_unit(rows))
    found = np.empty((len(asked), len(rows)), dtype=np.float32)
    for start, block in blocks(rows.codes, width):
        np.matmul(asked, numbers(block, rows.dtype).T, out=found[:, start : start + len(block)])
    return found


def bytes_per_vector(dtype: DType, dimensions: int) -> int:
    """Bytes of a vector of that width in that type.

    Raises:
        ConfigurationError: If there is no such type, or the width of a binary one is not a multiple of 8.
    """
    width = code_width(check_dtype(dtype), dimensions)
    return width * int(np.dtype(STORED_AS[dtype]).itemsize)


def _unit(quantized: Quantized) -> float:
    """What one step of `numbers` is."""
    quantized.check_known()
    if quantized.ranges is not None:
        return quantized.ranges.limit / STEPS
    return float(quantized.dimensions**-0.5) if quantized.dtype in PACKED else 1.0
