"""The tables of what servers may do: which waits they may ask for, and the fault matrix."""

from __future__ import annotations

from collections.abc import Iterable

from mrlclient.providers._refusals import retry_after
from mrlclient.retry import RetryPolicy

#: Heads and rows.
Table = tuple[list[str], Iterable[Iterable[object]]]

#: What a server may say, by the name shown.
_WAITS: dict[str, dict[str, str]] = {
    "`retry-after-ms: 250`, `retry-after: 9`": {"retry-after-ms": "250", "retry-after": "9"},
    "`2`": {"retry-after": "2"},
    "`0.5`": {"retry-after": "0.5"},
    "`60`": {"retry-after": "60"},
    "a date, 3 s after the header `Date`": {
        "retry-after": "Tue, 24 Nov 2026 12:00:03 GMT",
        "date": "Tue, 24 Nov 2026 12:00:00 GMT",
    },
    "`61`": {"retry-after": "61"},
    "`3600`": {"retry-after": "3600"},
    "`1e99`": {"retry-after": "1e99"},
    "`0`": {"retry-after": "0"},
    "`-5`": {"retry-after": "-5"},
    "`nan`": {"retry-after": "nan"},
    "`inf`": {"retry-after": "inf"},
    "`soon`": {"retry-after": "soon"},
    "a past date": {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"},
}


def waits() -> Table:
    """What is made of `Retry-After`."""
    cap = RetryPolicy().max_wait
    groups: dict[str, list[str]] = {}
    for shown, headers in _WAITS.items():
        seconds = retry_after(headers)
        if seconds is None:
            effect = "ignored; the wait is random"
        elif seconds > cap:
            effect = f"over {cap:g} s: no retry; the error has it as `retry_after`"
        else:
            effect = f"{seconds:g} s"
        groups.setdefault(effect, []).append(shown)
    return ["`Retry-After`", "Wait"], [(", ".join(shown), effect) for effect, shown in groups.items()]


def fault_matrix() -> Table:
    """What goes wrong, and what must come of it; `python -m tests.faults.table` runs it."""
    # The matrix is many modules: only who asks for it loads them.
    from tests.faults.table import declared

    return declared()
