"""Decoding the embeddings answer that OpenAI and Voyage share: JSON, base64 or float lists -> checked float32 rows."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient.errors import ResponseContractError
from mrlclient.operations import Answer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBERS = {int, float}


def decode_embeddings(body: bytes | bytearray | Mapping[str, Any], count: int, provider: str) -> Answer:
    """The vectors of an answer, put into the order of its `index` fields.

    Args:
        body: `{"data": [{"index", "embedding"}, ...], "model", "usage": {"total_tokens"}}`, as bytes or parsed. An
            embedding is base64 of little-endian float32, or a list of numbers.
        count: Texts that were sent.
        provider: Its name, for the errors.

    Raises:
        ResponseContractError: If the answer does not hold exactly one readable vector for each index, all of one width.
    """
    try:
        return _decode(body if isinstance(body, Mapping) else _parse(body), count, provider)
    except _UnusableError as problem:
        reason = str(problem)
    raise ResponseContractError(
        f"The answer of {provider} cannot be used: {reason}", provider=provider, status=200, retryable=True
    )


class _UnusableError(Exception):
    """Why an answer cannot be used."""


def _parse(body: bytes | bytearray) -> Any:
    def refuse_constant(name: str) -> float:
        raise _UnusableError(f"{name} is not JSON")

    reason = ""
    try:
        # Decoded strictly: json would guess the encoding, and a byte order mark is not JSON.
        return json.loads(body.decode("utf-8"), parse_constant=refuse_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        # The decoder's error holds the whole body, so ours is raised outside.
        reason = "it is not JSON" if body else "it is empty"
    raise _UnusableError(reason)


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a name that stands twice, nobody knows which value is meant; json would take the last."""
    made = dict(members)
    if len(made) != len(members):
        raise _UnusableError("a name stands twice in an object")
    return made


def _decode(answer: Any, count: int, provider: str) -> Answer:
    data = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(data, list) or not all(isinstance(item, Mapping) for item in data):
        raise _UnusableError("it has no list of data" + (", but an error" if _has_error(answer) else ""))
    if len(data) != count:
        raise _UnusableError(f"it has {len(data)} vectors for {count} texts")
    by_index: dict[int, Any] = {}
    for item in data:
        index = item.get("index")
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise _UnusableError(f"an index is not an integer of 0 to {count - 1}")
        if index in by_index:
            raise _UnusableError(f"index {index} stands twice")
        by_index[index] = item.get("embedding")
    first = _vector(by_index[0], 0)
    vectors = np.empty((count, len(first)), dtype=np.float32)
    for index, embedding in by_index.items():
        row = _vector(embedding, index)
        if len(row) != len(first):
            raise _UnusableError(f"vector 0 has {len(first)} dimensions and vector {index} has {len(row)}")
        vectors[index] = row
    notes: tuple[str, ...] = ()
    if not all(isinstance(embedding, str) for embedding in by_index.values()):
        notes = (f"{provider}: the server ignored encoding_format=base64 and sent lists of numbers, which is slower.",)
    usage = answer.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    model = answer.get("model")
    return Answer(
        vectors,
        tokens if type(tokens) is int and tokens >= 0 else None,
        notes,
        model if isinstance(model, str) and model else None,
    )


def _has_error(answer: Any) -> bool:
    return isinstance(answer, Mapping) and "error" in answer


def _vector(embedding: Any, index: int) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        try:
            raw = binascii.a2b_base64(embedding, strict_mode=True)
        except ValueError:
            raw = b""
        if not raw or len(raw) % 4:
            raise _UnusableError(f"vector {index} is not base64 of float32 numbers")
        return np.frombuffer(raw, dtype="<f4")
    if isinstance(embedding, list) and embedding and set(map(type, embedding)) <= _NUMBERS:
        with np.errstate(over="ignore"):
            try:
                return np.array(embedding, dtype=np.float64).astype(np.float32)
            except OverflowError:
                raise _UnusableError(f"vector {index} holds a number beyond floating point") from None
    raise _UnusableError(f"vector {index} is neither base64 nor a list of numbers")
