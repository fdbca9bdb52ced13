"""N10: what may stand in `Retry-After`. Kept to where it is a wait, named where it is too long, else ignored."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from mrlclient import RateLimitError
from mrlclient.testing.emulator import Fault
from tests.faults.matrix import Case, check, named, of_emulator

#: The first wait where the server says nothing: random, up to half a second.
BACKOFF = (0.0, 0.5)

_HOUR = 3600.0


def date(seconds: float, clock: float | None = None) -> str:
    """An HTTP date so many seconds from now, by another clock where one is given."""
    return email.utils.formatdate((time.time() if clock is None else clock) + seconds, usegmt=True)


class Late(Mapping[str, str]):
    """Headers made when they are sent, for time passes between the collecting of a test and its run."""

    def __init__(self, make: Callable[[], dict[str, str]]) -> None:
        self._make = make

    def __getitem__(self, name: str) -> str:
        return self._make()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make())

    def __len__(self) -> int:
        return len(self._make())


def waits(name: str, headers: Mapping[str, str], low: float, high: float | None = None, status: int = 429) -> Case:
    """The server's answer and then a good one: the wait between them."""
    return Case(
        row="N10",
        name=name,
        inject=of_emulator(Fault(status=status, headers=headers)),
        expects=None,
        attempts=2,
        first_wait=(low, low if high is None else high),
    )


def ignored(name: str, headers: dict[str, str]) -> Case:
    return waits(name, headers, *BACKOFF)


def too_long(name: str, headers: Mapping[str, str], says: str) -> Case:
    """No further attempt, and an error that names the wait."""
    return Case(
        row="N10",
        name=name,
        inject=of_emulator(Fault(status=429, headers=headers)),
        expects=RateLimitError,
        attempts=1,
        says=says,
    )


def after(value: str) -> dict[str, str]:
    return {"retry-after": value}


def skewed(seconds: float, skew: float) -> Late:
    """A server whose clock is wrong says a date, and what it takes the time to be."""

    def make() -> dict[str, str]:
        clock = time.time() + skew
        return {"date": date(0, clock), "retry-after": date(seconds, clock)}

    return Late(make)


CASES = [
    ignored("nothing", {}),
    waits("1", after("1"), 1.0),
    waits("0.5", after("0.5"), 0.5),
    waits("blanks around it", after("  2  "), 2.0),
    waits("60, the cap", after("60"), 60.0),
    waits("of a 503", after("7"), 7.0, status=503),
    waits("milliseconds", {"retry-after-ms": "250"}, 0.25),
    waits("both, milliseconds first", {"retry-after-ms": "250", "retry-after": "9"}, 0.25),
    waits("milliseconds of nonsense, then seconds", {"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
    waits("no milliseconds, then seconds", {"retry-after-ms": "0", "retry-after": "9"}, 9.0),
    waits("a date in 3 s", Late(lambda: after(date(3))), 1.5, 3.0),
    waits("a date in 3 s, by a clock an hour fast", skewed(3, _HOUR), 3.0),
    waits("a date in 3 s, by a clock an hour slow", skewed(3, -_HOUR), 3.0),
    ignored("0", after("0")),
    ignored("-5", after("-5")),
    ignored("nan", after("nan")),
    ignored("inf", after("inf")),
    ignored("-inf", after("-inf")),
    ignored("1e999", after("1e999")),
    ignored("soon", after("soon")),
    ignored("empty", after("")),
    ignored("two numbers", after("1 2")),
    ignored("an underscore", after("1_0")),
    ignored("a past date", after("Wed, 21 Oct 2015 07:28:00 GMT")),
    ignored("a past date, by the server's own clock", skewed(-30, _HOUR)),
    ignored("a date before all dates", after("Mon, 01 Jan 0001 00:00:00 +2359")),
    ignored("a date of too many digits", after("Wed, 21 Oct 99999999999999999999 07:28:00 GMT")),
    ignored("a day that is none", after("Wed, 31 Feb 2031 07:28:00 GMT")),
    ignored("a zone that is none", after("Wed, 21 Oct 2031 07:28:00 +999999999999")),
    ignored("NUL", after("1\0")),
    ignored("negative milliseconds", {"retry-after-ms": "-250"}),
    too_long("61", after("61"), "61 s"),
    too_long("3600", after("3600"), "3600 s"),
    too_long("1e99", after("1e99"), "1e+99 s"),
    too_long("61000 milliseconds", {"retry-after-ms": "61000", "retry-after": "1"}, "61 s"),
    too_long("a date in an hour", skewed(_HOUR, 0), "3600 s"),
    too_long("a date in the year 9999", after("Fri, 31 Dec 9999 23:59:59 GMT"), " s)"),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    outcome = check(case, face, emulator)
    if case.expects is not None:
        assert outcome.error.retry_after > 60


def test_waits_grow_and_are_random(face, emulator):
    """Full jitter: uniform from nothing to 0.5 s, then 1, 2, 4, 8 and no more."""
    case = Case(
        row="N10",
        name="nothing, eight times",
        inject=of_emulator(Fault(status=503, times=8)),
        expects=None,
        attempts=9,
        max_attempts=9,
    )
    rounds = [check(case, face, emulator).waits for _ in range(25)]
    for attempt, bound in enumerate((0.5, 1, 2, 4, 8, 8, 8, 8)):
        waits = [each[attempt] for each in rounds]
        assert 0 <= min(waits) < bound * 0.35
        assert bound * 0.65 < max(waits) <= bound
