"""Strict JSON: UTF-8 without a mark, no constants beyond the standard, no name twice in an object."""

from __future__ import annotations

import json
from typing import Any


class UnusableError(Exception):
    """Why an answer cannot be used."""


def parse(body: bytes | bytearray) -> Any:
    """The value of a whole body.

    Raises:
        UnusableError: If it is not JSON, or if nobody can know what it means.
    """

    def refuse_constant(name: str) -> float:
        raise UnusableError(f"{name} is not JSON")

    reason = ""
    try:
        # Decoded strictly: json would guess the encoding, and a byte order mark is not JSON.
        return json.loads(body.decode("utf-8"), parse_constant=refuse_constant, object_pairs_hook=object_once)
    except (ValueError, RecursionError):
        # The decoder's error holds the whole body, so ours is raised outside.
        reason = "it is not JSON" if body else "it is empty"
    raise UnusableError(reason)


def object_once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a name that stands twice, nobody knows which value is meant; json would take the last."""
    made = dict(members)
    if len(made) != len(members):
        raise UnusableError("a name stands twice in an object")
    return made
