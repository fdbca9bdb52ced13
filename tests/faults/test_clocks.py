"""P5: a clock that is set while a call is under way, an hour on or back. No wait and no deadline follows it."""

from __future__ import annotations

import email.utils
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from mrlclient import ProviderTimeoutError
from mrlclient.testing import Emulator
from mrlclient.testing.emulator import Fault
from tests.faults.matrix import Case, Injection, Site, check, named, of_emulator, of_script
from tests.faults.test_slowness import GRACE, TIMEOUT, slow_chunks

_HOUR = 3600.0


def jumping(inject: Injection, *jumps: float) -> Injection:
    """The wall clock is off by the next of `jumps` each time that it is asked, round and round."""

    @contextmanager
    def with_clock(emulator: Emulator) -> Iterator[Site]:
        clock, off = time.time, itertools.cycle(jumps)
        with inject(emulator) as site, patch.object(time, "time", lambda: clock() + next(off)):
            yield site

    return with_clock


def dated(seconds: float) -> Fault:
    """A refusal with a date, by the server's clock, which is right."""
    now = 1_800_000_000.0
    headers = {
        "date": email.utils.formatdate(now, usegmt=True),
        "retry-after": email.utils.formatdate(now + seconds, usegmt=True),
    }
    return Fault(status=429, headers=headers)


_JUMPS = {"on": (0.0, _HOUR), "back": (0.0, -_HOUR), "to and fro": (_HOUR, -_HOUR, 0.0)}

CASES = [
    *(
        Case(row="P5", name=f"{name}, {direction}", inject=jumping(inject, *jumps), expects=None, attempts=attempts)
        for direction, jumps in _JUMPS.items()
        for name, inject, attempts in (
            ("a slow answer", of_emulator(Fault(delay=0.2)), 1),
            ("a refusal that passes", of_emulator(Fault(status=503)), 2),
        )
    ),
    *(
        Case(
            row="P5",
            name=f"a date to wait for, {direction}",
            inject=jumping(of_emulator(dated(3)), *jumps),
            expects=None,
            attempts=2,
            first_wait=(3.0, 3.0),
        )
        for direction, jumps in _JUMPS.items()
    ),
    *(
        Case(
            row="P5",
            name=f"an answer without end, {direction}",
            inject=jumping(of_script(slow_chunks, timeout=TIMEOUT), *jumps),
            expects=ProviderTimeoutError,
            attempts=1,
            max_attempts=1,
            within=TIMEOUT + GRACE,
        )
        for direction, jumps in _JUMPS.items()
    ),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)
