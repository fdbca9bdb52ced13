"""One embedding as a server writes it -> the bytes of its numbers, in the order of this machine."""

from __future__ import annotations

import binascii
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mrlclient._codes import STORED_AS, DType
from mrlclient.providers._json import UnusableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBERS = {int, float}
_BASE64 = (memoryview, str)
_SWAPPED = sys.byteorder == "big"

#: Bytes that a number takes.
ITEM_SIZES: dict[DType, int] = {dtype: np.dtype(stored_as).itemsize for dtype, stored_as in STORED_AS.items()}


class NumberList(NamedTuple):
    """An array of numbers that is still text, and what can read it."""

    parser: Any
    text: memoryview


def row_bytes(embedding: Any, index: int, dtype: DType = "float32") -> bytes:
    """The numbers of the vector at `index`.

    Args:
        embedding: Base64 of little-endian float32, or of codes of a byte each, as a string or as its bytes; or numbers,
            as a list or `NumberList`.
        index: Its place, for the error.
        dtype: The type of its numbers.

    Raises:
        UnusableError: If it is not that.
    """
    if isinstance(embedding, _BASE64):
        try:
            raw = _decode_base64(embedding)
        except ValueError:
            raw = b""
        if not raw or len(raw) % ITEM_SIZES[dtype]:
            raise UnusableError(f"vector {index} is not base64 of {dtype} numbers")
        if dtype != "float32":
            return raw
        return np.frombuffer(raw, "<f4").astype(np.float32).tobytes() if _SWAPPED else raw
    if isinstance(embedding, NumberList):
        try:
            numbers = np.frombuffer(embedding.parser.parse(embedding.text).as_buffer(of_type="d"))
        except (ValueError, TypeError, RuntimeError):
            # Not an array of numbers only, or one of them is beyond what the parser takes.
            numbers = np.empty(0)
        if not len(numbers):
            raise UnusableError(f"vector {index} is not a list of numbers")
    elif isinstance(embedding, list) and embedding and set(map(type, embedding)) <= _NUMBERS:
        try:
            numbers = np.array(embedding, dtype=np.float64)
        except OverflowError:
            raise UnusableError(f"vector {index} holds a number beyond floating point") from None
    else:
        raise UnusableError(f"vector {index} is neither base64 nor a list of numbers")
    if dtype != "float32":
        return _code_bytes(numbers, index, dtype)
    with np.errstate(over="ignore", under="ignore"):
        return numbers.astype(np.float32).tobytes()


def _code_bytes(numbers: NDArray[np.float64], index: int, dtype: DType) -> bytes:
    """Numbers that stand for themselves in a type of whole ones."""
    bounds = np.iinfo(STORED_AS[dtype])
    if not ((numbers >= bounds.min) & (numbers <= bounds.max) & (numbers == np.rint(numbers))).all():
        raise UnusableError(f"vector {index} holds numbers that are none of {dtype}")
    return numbers.astype(STORED_AS[dtype]).tobytes()


@cache
def _simdjson() -> Any:
    try:
        import simdjson
    except ImportError:
        return None
    return simdjson


def number_parser() -> Any:
    """What reads arrays of numbers without a Python object for each; None where it is not installed."""
    simdjson = _simdjson()
    return None if simdjson is None else simdjson.Parser()


def _decode_strictly(text: memoryview | str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


def _base64_decoder() -> Callable[[memoryview | str], bytes]:
    try:
        from pybase64 import b64decode, get_version
    except ImportError:
        return _decode_strictly
    if "inactive" in get_version():
        return _decode_strictly

    def decode(text: memoryview | str) -> bytes:
        try:
            return b64decode(text, None, True)
        except ValueError:
            pass
        # It refuses a little more: binascii takes an "=" too many. What is taken must not depend on what is installed.
        return _decode_strictly(text)

    return decode


_decode_base64 = _base64_decoder()
