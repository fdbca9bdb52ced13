"""What bounds an account's requests: what you say of it, and what the server's headers say."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mrlclient.errors import ConfigurationError

#: Addresses that a shared limit can have.
_SCHEMES = frozenset({"redis", "rediss", "valkey", "valkeys", "unix"})

#: ASCII digits only, and not so many that a float could overflow.
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
_PART = re.compile(rf"({_NUMBER.pattern})(ms|[hms])")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, slots=True)
class Limits:
    """Rate limits of an embedder's account.

    Embedders of one process with the same model and key share them, and the stricter value counts. What a server
    reports makes them stricter, never looser.

    Args:
        requests_per_minute: Requests per minute. None: what the catalogue or the server says. `math.inf`: no limit,
            whatever the server says.
        tokens_per_minute: Tokens per minute, likewise.
        max_in_flight: The most requests under way at once. After a server was overloaded, there are fewer for a while.
        shared: `"redis://HOST"` or `"valkey://HOST"`, or any other address of a cache on a server. Processes and
            machines that name the same server share the limits per minute; give all of them the same limits. The
            address may hold a password, so a repr does not show it; a pickle contains it.

    Raises:
        ConfigurationError: If a value is out of range.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_in_flight: int = 64
    shared: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            # Not NaN either, which is not above 0.
            if value is not None and not (_is_a(value, int | float) and value > 0):
                raise ConfigurationError(f"{name} must be a positive number, math.inf for no limit, or None.")
        if not (_is_a(self.max_in_flight, int) and self.max_in_flight > 0):
            raise ConfigurationError("max_in_flight must be a positive integer.")
        if self.shared is not None and not (isinstance(self.shared, str) and _scheme(self.shared) in _SCHEMES):
            raise ConfigurationError(
                "shared must be an address such as valkey://user:password@host:6379/0 (redis, rediss, valkeys) or "
                "unix:///path. It is not shown: it may hold a password."
            )


@dataclass(frozen=True, slots=True)
class Window:
    """What a server says of one limit.

    Attributes:
        limit: What may be used in a minute.
        remaining: What is left of it.
        reset: Seconds until all of it is there again.
    """

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None


#: Of a limit of which a server says nothing.
_NOTHING = Window()


@dataclass(frozen=True, slots=True)
class Quota:
    """What a server says of an account's limits."""

    requests: Window = _NOTHING
    tokens: Window = _NOTHING


def fingerprint_of(origin: str, api_key: str) -> str:
    """What stands for a key at an address, where accounts are told apart.

    It is BLAKE2b-256 over both, without a secret of its own, since all processes that share a limit have to come to the
    same one. From a key as vendors give them, of more than 100 random bits, there is no way back. A short word that
    somebody chose as a key could be guessed.
    """
    hashed = hashlib.blake2b(digest_size=32, person=b"mrlclient acct 1")
    hashed.update(len(origin.encode("utf-8")).to_bytes(8, "little"))
    hashed.update(origin.encode("utf-8"))
    hashed.update(api_key.encode("utf-8"))
    return hashed.hexdigest()


def parse_quota(headers: Mapping[str, str]) -> Quota | None:
    """What the headers `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` say; None where they say nothing.

    Nonsense is taken for nothing said, and so is a limit of 0: it would mean never.

    Args:
        headers: With names in lower case, or of any case where the mapping does not care.
    """
    requests, tokens = _window(headers, "requests"), _window(headers, "tokens")
    return None if requests is tokens is _NOTHING else Quota(requests, tokens)


def parse_duration(value: str | None) -> float | None:
    """Seconds in `"6m0s"`, `"1s"`, `"522ms"`, `"1h2m3.5s"` or a plain number of seconds; None for anything else."""
    if value is None:
        return None
    text = value.strip()
    if _DURATION.fullmatch(text):
        return math.fsum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    return _number(text)


def _window(headers: Mapping[str, str], name: str) -> Window:
    limit = _number(headers.get(f"x-ratelimit-limit-{name}")) or None
    remaining = _number(headers.get(f"x-ratelimit-remaining-{name}"))
    reset = parse_duration(headers.get(f"x-ratelimit-reset-{name}"))
    return _NOTHING if limit is remaining is reset is None else Window(limit, remaining, reset)


def _number(value: str | None) -> float | None:
    if value is None:
        return None
    text = value.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _is_a(value: object, kind: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)  # type: ignore[arg-type]


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""
