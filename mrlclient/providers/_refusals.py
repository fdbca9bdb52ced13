"""What a status that is not 200 means: which error, whether it may pass, how long to wait, and what is at fault."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping

from mrlclient.errors import (
    AuthenticationError,
    BadRequestError,
    ProviderError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    ResponseContractError,
    Scope,
    ServerError,
)

#: The same request may succeed later.
RETRYABLE = frozenset({408, 409, 424, 425, 429, 500, 502, 503, 504, *range(520, 525), 529})

#: Codes of a 429 that no waiting cures.
_PERMANENT: dict[str | None, type[ProviderError]] = {
    "insufficient_quota": QuotaError,
    "request_too_large": RateLimitError,
}

#: Codes that we give to errors whose status says something else.
INPUT_TOO_LARGE, BATCH_TOO_LARGE = "input_too_large", "batch_too_large"

#: Codes of a request that is refused for its size.
_TOO_LARGE = frozenset({"max_tokens_per_request", "TOO_MANY_TOKENS_IN_BATCH", "request_too_large", BATCH_TOO_LARGE})


def classify(status: int, code: str | None) -> tuple[type[ProviderError], bool]:
    """Which error a status is, and whether it may pass."""
    retryable = status in RETRYABLE
    if code in _PERMANENT:
        return _PERMANENT[code], False
    if status in (401, 403):
        return AuthenticationError, retryable
    if status == 408:
        return ProviderTimeoutError, retryable
    if status == 429:
        return RateLimitError, retryable
    if status == 424:
        # The computation behind the server failed: of TEI's own 4xx it is the one that is no fault of the request.
        return ServerError, retryable
    if code == INPUT_TOO_LARGE:
        return BadRequestError, False
    if 300 <= status < 500:
        # A redirect is never followed: the key and the texts would go to whatever host it names.
        return BadRequestError, retryable
    if status >= 500:
        return ServerError, retryable
    return ResponseContractError, True


def scope_of(status: int, code: str | None, parameter: str | None) -> Scope:
    """What is refused: a request may be too large as a whole, or hold a text that the provider does not take."""
    if status == 413 or code in _TOO_LARGE:
        return "size"
    if code == INPUT_TOO_LARGE:
        return "text"
    return "text" if status in (400, 422) and parameter in (None, "input") else "request"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, else seconds, else an HTTP date; nonsense is ignored."""
    seconds = _number(headers.get("retry-after-ms")) / 1000.0
    if not seconds > 0:
        seconds = _number(headers.get("retry-after"))
    if not seconds > 0:
        # By the server's own clock, where it says what that is: this machine's may be wrong.
        now = _date(headers.get("date"))
        seconds = _date(headers.get("retry-after")) - (time.time() if math.isnan(now) else now)
    return seconds if 0 < seconds < math.inf else None


def _number(value: str | None) -> float:
    try:
        # Python would read 1_0 as ten.
        return math.nan if value is None or "_" in value else float(value)
    except ValueError:
        return math.nan


def _date(value: str | None) -> float:
    try:
        return email.utils.parsedate_to_datetime(value or "").timestamp()
    except (ValueError, OverflowError, OSError):
        # The last two for years that a clock cannot hold.
        return math.nan
