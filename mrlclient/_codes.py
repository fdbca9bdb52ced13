"""What vectors in fewer bytes are made of: their codes. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from mrlclient.errors import ConfigurationError, DimensionsOutOfRangeError
from mrlclient.models import is_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What a vector's numbers may be.
DType = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]

#: Where vectors are made smaller: here, or by the server.
Quantization = Literal["client", "server"]

#: How each is stored.
STORED_AS: dict[DType, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "int8": np.int8,
    "uint8": np.uint8,
    "binary": np.int8,
    "ubinary": np.uint8,
}
#: Those that need ranges.
SCALED = ("int8", "uint8")
#: Those of one bit a number.
PACKED = ("binary", "ubinary")
#: The code that the limit of the ranges has.
STEPS = 127

#: Those whose codes are those of another but for the highest bit, so that zero is in the middle of the other kind.
OFFSET = ("uint8", "binary")
#: Pairs of such.
SIBLING = {"int8": "uint8", "uint8": "int8", "binary": "ubinary", "ubinary": "binary"}
_HIGHEST_BIT = np.uint8(0x80)

#: Numbers that are handled at a time, so that they stay in the processor's cache.
_BLOCK = 196_608

#: So many codes of a vector are not equal by chance.
_NO_CHANCE = 8


def check_dtype(dtype: object) -> DType:
    """The type, if it is one.

    Raises:
        ConfigurationError: If it is none.
    """
    if dtype not in get_args(DType):
        raise ConfigurationError(f"dtype must be one of {', '.join(get_args(DType))}, not {dtype!r}.")
    return dtype  # type: ignore[return-value]  # it is one of them


def code_width(dtype: DType, dimensions: int) -> int:
    """Codes for a vector.

    Raises:
        ConfigurationError: If it is no width.
        DimensionsOutOfRangeError: If bits would be left over.
    """
    if not is_width(dimensions):
        raise ConfigurationError(f"dimensions must be a positive integer, not {dimensions!r}.")
    if dtype not in PACKED:
        return dimensions
    if dimensions % 8:
        near = " or ".join(str(width) for width in (dimensions // 8 * 8, dimensions // 8 * 8 + 8) if width)
        raise DimensionsOutOfRangeError(
            f"{dtype} holds eight dimensions to a byte, and {dimensions} is no multiple of 8: take {near}.",
            dimensions=dimensions,
        )
    return dimensions // 8


def unusable_codes(codes: NDArray[Any]) -> dict[int, str]:
    """The rows of a server's codes that are no vector's, in order, and why; empty where all can be used."""
    if codes.shape[1] < _NO_CHANCE:
        return {}
    constant = np.flatnonzero((codes == codes[:, :1]).all(axis=1))
    return dict.fromkeys(constant.tolist(), "one number throughout")


def float_rows(vectors: Any, what: str) -> NDArray[Any]:
    """The vectors as a plain matrix of float32 or float16.

    Raises:
        ConfigurationError: If they are none.
    """
    plain = isinstance(vectors, np.ndarray) and not isinstance(vectors, np.ma.MaskedArray)
    if not plain or vectors.dtype not in (np.float32, np.float16):
        kind = vectors.dtype if type(vectors) is np.ndarray else type(vectors).__name__
        raise ConfigurationError(
            f"{what} must be a numpy array of float32 or float16, not of {kind}: np.asarray({what}, dtype=np.float32)."
        )
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise ConfigurationError(f"{what} has the shape {vectors.shape}. It must be (n, d): a row for each.")
    return np.asarray(vectors)


def blocks(rows: NDArray[Any], width: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Some rows at a time, as many as are a block of numbers at this width; and the place of the first of them."""
    step = max(_BLOCK // width, 1)
    for start in range(0, len(rows), step):
        yield start, rows[start : start + step]


def finite_blocks(vectors: NDArray[Any], what: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """As `blocks`, in float32.

    Raises:
        ConfigurationError: If a number is not finite.
    """
    for start, block in blocks(vectors, vectors.shape[1]):
        finite = np.isfinite(block)
        if not finite.all():
            row = start + int(np.argmin(finite.all(axis=1)))
            raise ConfigurationError(
                f"Row {row} of {what} is not finite: no codes stand for that. Leave such rows out."
            )
        yield start, block.astype(np.float32, copy=False)


def offset(codes: NDArray[Any]) -> NDArray[Any]:
    """Unsigned codes - 128, or signed ones + 128: the same bytes, but for the highest bit."""
    other = np.int8 if codes.dtype == np.uint8 else np.uint8
    flipped: NDArray[Any] = np.bitwise_xor(codes.view(np.uint8), _HIGHEST_BIT).view(other)
    return flipped


def scaled(block: NDArray[np.float32], limit: float) -> tuple[NDArray[np.int8], int]:
    """Codes of -127 to 127, and how many numbers were outside."""
    with np.errstate(over="ignore", under="ignore"):
        steps = np.multiply(block, np.float32(STEPS / limit))
    np.rint(steps, out=steps)
    outside = int(np.count_nonzero(np.abs(steps) > STEPS))
    return np.clip(steps, -STEPS, STEPS, out=steps).astype(np.int8), outside


def rounded(block: NDArray[np.float32], dtype: DType, start: int) -> NDArray[Any]:
    """The block in fewer digits.

    Raises:
        ConfigurationError: If a number is too large for the type.
    """
    with np.errstate(over="ignore", under="ignore"):
        made: NDArray[Any] = block.astype(STORED_AS[dtype])
    finite = np.isfinite(made)
    if not finite.all():
        row = start + int(np.argmin(finite.all(axis=1)))
        raise ConfigurationError(f"Row {row} of vectors has numbers that {dtype} cannot hold: l2_normalize them.")
    return made


def numbers(codes: NDArray[Any], dtype: DType) -> NDArray[np.float32]:
    """Codes as numbers: -127 to 127, -1 and 1, or what floats hold."""
    if dtype in OFFSET:
        codes = offset(codes)
    if dtype in PACKED:
        bits = np.unpackbits(codes, axis=1).astype(np.float32)
        return np.subtract(np.multiply(bits, 2, out=bits), 1, out=bits)
    return codes.astype(np.float32, copy=False)


def hamming(queries: NDArray[np.uint8], rows: NDArray[np.uint8]) -> NDArray[np.unsignedinteger[Any]]:
    """In how many bits each query differs from each row: (q, n)."""
    size = rows.shape[1]
    distances = np.zeros((len(queries), len(rows)), dtype=np.min_scalar_type(8 * size))
    asked = _words(queries)
    for start, block in blocks(rows, size):
        # Word by word over all rows: adding up along the short axis takes ten times as long.
        columns = np.ascontiguousarray(_words(block).T)
        for query, found in zip(asked, distances[:, start : start + len(block)], strict=True):
            for word, column in zip(query, columns, strict=True):
                found += np.bitwise_count(np.bitwise_xor(column, word))
    return distances


def _words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Eight bytes as one number; what is missing at the end is zero."""
    missing = -codes.shape[1] % 8
    whole = np.pad(codes, ((0, 0), (0, missing))) if missing else np.ascontiguousarray(codes)
    return whole.view(np.uint64)
