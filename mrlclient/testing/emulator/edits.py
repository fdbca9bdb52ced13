"""Ways to spoil a payload that was right. Each takes the payload and returns what is sent instead.

They are made for requests of at least three texts: with one text, an order cannot be wrong.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

Payload = dict[str, Any]
Edit = Callable[[Payload], Any]


def of_data(change: Callable[[list[Any]], list[Any]]) -> Edit:
    """Changes the list under `data`."""
    return lambda payload: payload | {"data": change(payload["data"])}


def of_index(change: Callable[[int], Any]) -> Edit:
    """Changes each `index`."""
    return of_data(lambda data: [row | {"index": change(row["index"])} for row in data])


def of_row(change: Callable[[Any], Any]) -> Edit:
    """Changes the second `embedding` as it stands in the JSON, or the only one."""

    def edit(data: list[Any]) -> list[Any]:
        at = min(1, len(data) - 1)
        return [row | {"embedding": change(row["embedding"])} if i == at else row for i, row in enumerate(data)]

    return of_data(edit)


def of_rows(change: Callable[[Any], Any]) -> Edit:
    """Changes every `embedding` as it stands in the JSON."""
    return of_data(lambda data: [row | {"embedding": change(row["embedding"])} for row in data])


def without(name: str) -> Edit:
    """Leaves a field of the payload out."""
    return lambda payload: {key: value for key, value in payload.items() if key != name}


def without_index(payload: Payload) -> Any:
    """Leaves every `index` out."""
    return payload | {"data": [{key: value for key, value in row.items() if key != "index"} for row in payload["data"]]}


def shuffled(data: list[Any]) -> list[Any]:
    """Another order than the right one, the same each time."""
    return data[1::2][::-1] + data[::2]


def numbers(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Changes an embedding's numbers, (d,) float32, and writes them as they were written: base64 or a list."""

    def edit(embedding: Any) -> Any:
        changed = np.asarray(change(read(embedding).copy()), dtype="<f4")
        return as_base64(changed) if isinstance(embedding, str) else changed.tolist()

    return edit


def set_number(value: float) -> Callable[[Any], Any]:
    """Puts `value` in the place of the first number."""

    def change(vector: Any) -> Any:
        vector[0] = value
        return vector

    return numbers(change)


def stored_as(dtype: str) -> Callable[[Any], Any]:
    """The bytes of another number type, in base64."""
    scale = 127 if dtype == "i1" else 1
    return lambda embedding: as_base64((read(embedding) * scale).astype(dtype))


def read(embedding: Any) -> Any:
    """(d,) float32 of a base64 string or a list."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), dtype="<f4")
    return np.asarray(embedding, dtype="<f4")


def as_base64(vector: Any) -> str:
    """The base64 of an array's bytes."""
    return base64.b64encode(vector.tobytes()).decode("ascii")


def as_list(embedding: Any) -> list[float]:
    """The numbers as a list, whatever was asked for."""
    values: list[float] = read(embedding).tolist()
    return values
