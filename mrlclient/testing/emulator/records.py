"""What the emulator was asked, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """One HTTP request as it arrived.

    Attributes:
        provider: `"openai"`, `"voyage"`, or `""` where the path belongs to neither.
        method: The HTTP method.
        path: The path with its query, as sent.
        headers: By lower-case name.
        body: The parsed JSON, or None where it is not JSON.
        raw: The body's bytes.
        status: The status answered; None where the connection was dropped instead, and inside `Fault.when`.
        connection: A number for the TCP connection, so that a test can count them.
    """

    provider: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    raw: bytes
    status: int | None = None
    connection: int = 0

    @property
    def bearer(self) -> str | None:
        """The key in `Authorization: Bearer`, or None."""
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" and key else None


@dataclass(slots=True)
class Answer:
    """One HTTP answer: `body` is bytes, or a JSON value still to be written."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = b""

    def write_body(self) -> None:
        """Turns a JSON value into bytes, and says what they are."""
        if not isinstance(self.body, bytes):
            # NaN and Infinity are written as the bare words that some servers really send.
            self.body = json.dumps(self.body, separators=(",", ":")).encode()
        if self.body:
            self.headers.setdefault("content-type", "application/json")


class RefusedError(Exception):
    """A service's check failed: the answer is `status` with the JSON value `body`."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.answer = Answer(status, dict(headers or {}), body)


def read_json(raw: bytes) -> Any:
    """The JSON value of a request's body, or None where it is none (`null` is no request either)."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
