"""The emulator's tokens, and its limits per minute."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

_BYTES_PER_TOKEN = 4
_MINUTE = 60.0


def count_tokens(text: str) -> int:
    """The emulator's own token count: a token for every 4 bytes of UTF-8 begun, and at least 1.

    No vendor counts so. It is exact, quick, and easy to steer to a limit's border: `"a" * 4 * n` has `n` tokens.
    """
    return max(1, -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN))


def truncate_text(text: str, tokens: int, count: Callable[[str], int] = count_tokens) -> str:
    """The longest beginning of `text` that has at most `tokens` tokens, never half a character."""
    if count(text) <= tokens:
        return text
    return text[: bisect_right(range(1, len(text) + 1), tokens, key=lambda end: count(text[:end]))]


@dataclass(frozen=True, slots=True)
class Gauge:
    """One bucket as a request found or left it.

    Attributes:
        limit: What fits in.
        used: What is in it.
        reset: Seconds until it is empty.
        wait: Seconds until the request would have fitted; 0 where it did.
    """

    limit: int
    used: int
    reset: float
    wait: float = 0.0

    @property
    def remaining(self) -> int:
        """What still fits in."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request was let in: `refused_by` is `"requests"`, `"tokens"`, or None."""

    requests: Gauge
    tokens: Gauge
    refused_by: str | None = None


class _Bucket:
    """Fills with use and empties by its limit each minute."""

    def __init__(self, limit: int, enforced: bool, now: float) -> None:
        self.limit = limit
        self.enforced = enforced
        self._used = 0.0
        self._at = now

    def gauge(self, now: float, amount: int = 0) -> Gauge:
        rate = self.limit / _MINUTE
        self._used = max(0.0, self._used - (now - self._at) * rate)
        self._at = now
        over = self._used + amount - self.limit if self.enforced else 0.0
        # What floats leave over (a billionth of a token) is not a refusal.
        return Gauge(self.limit, round(self._used), self._used / rate, over / rate if over > 1e-6 else 0.0)

    def fill(self, amount: int) -> None:
        # A bucket that is not enforced only feeds the headers; it runs over.
        self._used = min(self._used + amount, float(self.limit))


class RateLimits:
    """Requests and tokens per minute, in buckets of their own for each model.

    Args:
        requests_per_minute: The limit, or None for no limit.
        tokens_per_minute: The limit, or None for no limit.
        shown: The (requests, tokens) limits that the headers name where there is no limit.
        clock: Seconds, never running backwards.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        *,
        shown: tuple[int, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self._shown = shown
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[_Bucket, _Bucket]] = {}

    def admit(self, model: str, tokens: int) -> Admission:
        """Takes one request and its tokens from the model's buckets, or neither."""
        with self._lock:
            now = self._clock()
            requests_bucket, tokens_bucket = self._of(model, now)
            found = Admission(requests_bucket.gauge(now, 1), tokens_bucket.gauge(now, tokens))
            for refused_by, gauge in (("requests", found.requests), ("tokens", found.tokens)):
                if gauge.wait > 0:
                    return Admission(found.requests, found.tokens, refused_by)
            requests_bucket.fill(1)
            tokens_bucket.fill(tokens)
            return Admission(requests_bucket.gauge(now), tokens_bucket.gauge(now))

    def look(self, model: str) -> Admission:
        """The model's buckets as they are, nothing taken."""
        with self._lock:
            now = self._clock()
            requests_bucket, tokens_bucket = self._of(model, now)
            return Admission(requests_bucket.gauge(now), tokens_bucket.gauge(now))

    def _of(self, model: str, now: float) -> tuple[_Bucket, _Bucket]:
        if model not in self._buckets:
            wanted = (self.requests_per_minute, self.tokens_per_minute)
            first, second = (
                _Bucket(shown if limit is None else limit, limit is not None, now)
                for limit, shown in zip(wanted, self._shown, strict=True)
            )
            self._buckets[model] = (first, second)
        return self._buckets[model]
