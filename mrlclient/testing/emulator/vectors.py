"""The emulator's vectors: made of words and random numbers, the same in every process.

`mrlclient.vectors` is not used here on purpose: an oracle must not share its arithmetic with what it checks.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient.models import ModelSpec, find_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What Voyage puts before each text, by input type.
PROMPTS = {
    "query": "Represent the query for retrieving supporting documents: ",
    "document": "Represent the document for retrieval: ",
}

_PIECES = re.compile(r"\w+|[^\w\s]")

#: The prompts' own words weigh little, as common words do in a real model: otherwise all short texts that carry a
#: prompt would look alike.
_COMMON = frozenset(_PIECES.findall(" ".join(PROMPTS.values()).lower()))
_COMMON_WEIGHT = 0.2

#: The share that belongs to the text as a whole. It keeps "a b" from "b a" and "A b", so that a mix-up shows.
_WHOLE_WEIGHT = 0.1

#: Two models of one space turn each pair of numbers by this angle, this way or that. Where they differ the angle is
#: doubled, which is for half of the pairs: the mean of cos(0) and cos(2 * angle) is 0.95.
_TURN = np.arccos(0.9) / 2

#: OpenAI's own cut equals slice + L2 only to about 1e-4. Renormalising can add a fifth to the largest difference.
_CUT_NOISE = 0.8e-4

#: The range that int8 and uint8 spread over. A stand-in: how Voyage scales them is not published.
_INT8_RANGE = 0.5


def emulator_vector(
    model_address: str, text: str, *, input_type: str | None = None, dimensions: int | None = None
) -> NDArray[np.float32]:
    """The vector that the emulator answers for one text: the oracle of a test.

    Texts that share words are near. In a Matryoshka model the first numbers carry the most, so neighbours stay
    neighbours in every prefix; in another model all numbers carry the same. Models of one space (the Voyage 4 series)
    answer the same text at a cosine of about 0.95.

    Args:
        model_address: A model of the catalogue, `"provider:model"`.
        text: The text. Token ids are embedded as their numbers with blanks between. Nothing is truncated here.
        input_type: Voyage's `"query"` or `"document"`: its prompt goes before the text.
        dimensions: The width, for the very vector that the emulator sends. An OpenAI cut differs from slice + L2 of the
            full vector by up to 1e-4, as the real one does; a Voyage cut is slice + L2.

    Returns:
        (native,) or (dimensions,) float32 of unit length.
    """
    spec = find_model(model_address)
    prompt = "" if input_type is None else PROMPTS[input_type]
    vector: NDArray[np.float32] = embed(spec, [prompt + text], dimensions or spec.native_dimensions)[0]
    return vector


def embed(spec: ModelSpec, texts: Sequence[str], dimensions: int) -> NDArray[np.float32]:
    """The vectors of many texts, prompts already put before them.

    Args:
        spec: A model of the catalogue.
        texts: n texts.
        dimensions: The width, from 1 to native.

    Returns:
        (n, dimensions) float32, unit rows.
    """
    rows = np.stack([_full_vector(spec.address, text)[:dimensions] for text in texts])
    if dimensions < spec.native_dimensions:
        rows = _unit(rows)
        if spec.provider == "openai":
            rows = _unit(rows + np.stack([_cut_noise(spec.address, dimensions, text) for text in texts]))
    return rows


def quantize(rows: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Vectors in one of Voyage's output types.

    Args:
        rows: (n, d) float32.
        dtype: `"float"`, `"int8"`, `"uint8"`, `"binary"` (packed bits - 128) or `"ubinary"`: most
            significant bit first.

    Returns:
        (n, d), or (n, d / 8) of the packed types; little-endian float32, int8 or uint8.
    """
    if dtype == "float":
        return rows.astype("<f4", copy=False)
    if dtype in ("int8", "uint8"):
        scaled: NDArray[Any] = np.clip(np.rint(rows * (127 / _INT8_RANGE)), -128, 127).astype(np.int16)
        return scaled.astype(np.int8) if dtype == "int8" else (scaled + 128).astype(np.uint8)
    packed = np.packbits(rows > 0, axis=1)
    bits: NDArray[Any] = packed if dtype == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)
    return bits


def encode(rows: NDArray[Any], *, as_base64: bool) -> list[Any]:
    """What stands under `embedding` in the JSON: a base64 string or a list of numbers, for each row."""
    if as_base64:
        return [base64.b64encode(row).decode("ascii") for row in np.ascontiguousarray(rows)]
    numbers: list[Any] = rows.tolist()
    return numbers


@lru_cache(maxsize=4096)
def _full_vector(address: str, text: str) -> NDArray[np.float32]:
    """(native,) float32, unit, not writable because it is cached."""
    spec = find_model(address)
    space = (spec.space, spec.native_dimensions, spec.matryoshka)
    vector = np.zeros(spec.native_dimensions, dtype=np.float32)
    for piece, count in Counter(_PIECES.findall(text.lower()) or [text]).items():
        vector += _piece_vector(*space, piece) * np.float32(count * (_COMMON_WEIGHT if piece in _COMMON else 1.0))
    vector = _unit(vector[None])[0] + np.float32(_WHOLE_WEIGHT) * _gaussian(*space, "text", text)
    if spec.space != f"{spec.provider}/{spec.name}":
        vector = (vector.view(np.complex64) * _turn(address, spec.native_dimensions)).view(np.float32)
    unit: NDArray[np.float32] = _unit(vector[None])[0]
    unit.flags.writeable = False
    return unit


@lru_cache(maxsize=4096)
def _piece_vector(space: str, width: int, matryoshka: bool, piece: str) -> NDArray[np.float32]:
    return _gaussian(space, width, matryoshka, "piece", piece)


def _gaussian(space: str, width: int, matryoshka: bool, kind: str, text: str) -> NDArray[np.float32]:
    """(width,) float32 of about unit length."""
    numbers = _random(space, kind, text).standard_normal(width, dtype=np.float32)
    return numbers * _spectrum(width, matryoshka)


@lru_cache(maxsize=64)
def _spectrum(width: int, matryoshka: bool) -> NDArray[np.float32]:
    """(width,) float32: the standard deviation of each number. In a Matryoshka model the first 256 hold about 3/4."""
    variances = (1 + np.arange(width) / 32) ** -1.5 if matryoshka else np.ones(width)
    deviations: NDArray[np.float32] = np.sqrt(variances / variances.sum()).astype(np.float32)
    return deviations


@lru_cache(maxsize=64)
def _turn(address: str, width: int) -> NDArray[np.complex64]:
    """(width / 2,) complex64. A rotation within pairs keeps all distances inside the model, at every even width."""
    signs = _random(address, "turn").integers(0, 2, width // 2) * 2 - 1
    turn: NDArray[np.complex64] = np.exp(1j * _TURN * signs).astype(np.complex64)
    return turn


def _cut_noise(address: str, dimensions: int, text: str) -> NDArray[np.float32]:
    noise = _random(address, "cut", str(dimensions), text).random(dimensions, dtype=np.float32)
    scaled: NDArray[np.float32] = (noise * 2 - 1) * np.float32(_CUT_NOISE)
    return scaled


def _random(*seed: str) -> np.random.Generator:
    # Not hash(): that differs from process to process.
    digest = hashlib.blake2b("\0".join(seed).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
