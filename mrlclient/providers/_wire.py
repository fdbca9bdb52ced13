"""Decoding the embeddings answer that OpenAI and Voyage share: JSON, base64 or number lists -> checked rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient._codes import STORED_AS, DType
from mrlclient.errors import ResponseContractError
from mrlclient.operations import Answer
from mrlclient.providers._json import UnusableError, parse
from mrlclient.providers._numbers import ITEM_SIZES, row_bytes
from mrlclient.providers._scan import scan, scan_in_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What base64 is, parsed and cut out.
_BASE64 = {str, memoryview}


def decode_embeddings(
    body: bytes | bytearray | Mapping[str, Any],
    count: int,
    provider: str,
    out: NDArray[Any] | None = None,
    dtype: DType = "float32",
) -> Answer:
    """The vectors of an answer, put into the order of its `index` fields.

    Args:
        body: `{"data": [{"index", "embedding"}, ...], "model", "usage": {"total_tokens"}}`, as bytes or parsed. An
            embedding is base64 of little-endian float32 or of codes, or a list of numbers.
        count: Texts that were sent.
        provider: Its name, for the errors.
        out: C-contiguous. Where the vectors are as wide, they are written here and the answer holds this very matrix.
            After an error it holds anything.
        dtype: The type that was asked for.

    Raises:
        ResponseContractError: If the answer does not hold exactly one readable vector for each index, all of one width.
    """
    if not isinstance(body, Mapping):
        try:
            if (in_order := scan_in_order(body, count)) is not None:
                return _answer(*in_order, provider, out, dtype)
            if (answer := scan(body)) is not None:
                return _decode(answer, count, provider, out, dtype)
        except UnusableError:
            # The plain parser decides, and says why.
            pass
    try:
        return _decode(body if isinstance(body, Mapping) else parse(body), count, provider, out, dtype)
    except UnusableError as problem:
        reason = str(problem)
    raise ResponseContractError(
        f"The answer of {provider} cannot be used: {reason}", provider=provider, status=200, retryable=True
    )


def _decode(answer: Any, count: int, provider: str, out: NDArray[Any] | None, dtype: DType) -> Answer:
    data = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(data, list) or not all(isinstance(item, Mapping) for item in data):
        has_error = isinstance(answer, Mapping) and "error" in answer
        raise UnusableError("it has no list of data" + (", but an error" if has_error else ""))
    if len(data) != count:
        raise UnusableError(f"it has {len(data)} vectors for {count} texts")
    return _answer(answer, _in_order(data), provider, out, dtype)


def _answer(
    answer: Mapping[str, Any], embeddings: Sequence[Any], provider: str, out: NDArray[Any] | None, dtype: DType
) -> Answer:
    """The embeddings as a matrix, and what else an answer says."""
    vectors = _matrix(embeddings, out, dtype)
    notes: tuple[str, ...] = ()
    if not set(map(type, embeddings)) <= _BASE64:
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


def _in_order(data: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The embeddings, by `index`."""
    count = len(data)
    embeddings: list[Any] = [None] * count
    seen = bytearray(count)
    for item in data:
        index = item.get("index")
        if type(index) is not int or not 0 <= index < count:
            raise UnusableError(f"an index is not an integer of 0 to {count - 1}")
        if seen[index]:
            raise UnusableError(f"index {index} stands twice")
        seen[index] = True
        embeddings[index] = item.get("embedding")
    return embeddings


def _matrix(embeddings: Sequence[Any], out: NDArray[Any] | None, dtype: DType) -> NDArray[Any]:
    """The embeddings as rows, decoded straight into their place."""
    row = row_bytes(embeddings[0], 0, dtype)
    size, each = len(row), ITEM_SIZES[dtype]
    shape = (len(embeddings), size // each)
    vectors = np.empty(shape, dtype=STORED_AS[dtype]) if out is None or out.shape != shape else out
    target = vectors.data.cast("B")
    target[:size] = row
    for index in range(1, len(embeddings)):
        row = row_bytes(embeddings[index], index, dtype)
        if len(row) != size:
            raise UnusableError(f"vector 0 has {size // each} numbers and vector {index} has {len(row) // each}")
        target[index * size : (index + 1) * size] = row
    return vectors
