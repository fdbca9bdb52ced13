"""Runs the fault matrix and prints what came of it: ``python -m tests.faults.table``.

`docs/explanation/faults.md` holds the table as the cases say it must be (``python -m tests.docs.generated`` writes it).
The tests hold each case to that; a run here fails where anything comes otherwise.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable

from mrlclient.testing import Emulator
from tests.faults import (
    test_answers,
    test_bad_rows,
    test_bombs,
    test_clocks,
    test_connections,
    test_names_and_certificates,
    test_poison,
    test_proxies,
    test_redirects,
    test_renamed_model,
    test_retry_after,
    test_slow_heads,
    test_slowness,
    test_statuses,
    test_texts,
    test_widths,
)
from tests.faults.matrix import FACES, Case, run

_MODULES = (
    test_connections,
    test_names_and_certificates,
    test_proxies,
    test_slowness,
    test_slow_heads,
    test_bombs,
    test_answers,
    test_bad_rows,
    test_statuses,
    test_retry_after,
    test_redirects,
    test_renamed_model,
    test_widths,
    test_texts,
    test_poison,
    test_clocks,
)

CASES: list[Case] = [case for module in _MODULES for case in module.CASES]

#: What goes wrong in each row, and what must come of it.
ROWS: dict[str, tuple[str, str]] = {
    "N1": (
        "connections refused, reset or ended, before the answer and at any byte of it",
        "retried within limits; a passing failure costs one more request",
    ),
    "N2": (
        "unknown host names; self-signed, expired or wrong certificates; no TLS",
        "certificates: not retried, and nothing is sent; the rest is retried",
    ),
    "N3": (
        "proxies from the environment: working, refusing, asking for a login, dying",
        "407 is final; the key goes only through the tunnel",
    ),
    "N4": (
        "slow or stalled connections, heads and bodies",
        f"over within the timeout plus {test_slowness.GRACE} s",
    ),
    "N5": (
        "gzip, deflate and brotli bombs, 2 GB announced, errors of 50 MB, endless heads",
        f"refused; memory grows by {test_bombs.MOST_GROWTH // 2**20} MB at most",
    ),
    "N6": ("answers that are not JSON, or not embeddings", "at most three attempts"),
    "N7": (
        f"rows missing, doubled, mixed up, of another width or type; {test_answers.FUZZED} answers changed at random",
        "sorted if every index is right, else refused as a whole",
    ),
    "N8": ("some unusable rows: NaN, infinity, zero, another length", "only these are requested again"),
    "N9": ("every status from 300 to 599, with bodies of every kind", "as in the retry table, each request counted"),
    "N10": ("every kind of Retry-After", "waited for, ignored, or too long and reported"),
    "N11": ("redirects, to the same host, another one, and out of TLS", "refused; nothing is sent there"),
    "M1": ("an answer of another model", "refused, not retried"),
    "M2": (
        "servers that ignore the width, or truncate without normalising",
        "corrected here if the model allows it",
    ),
    "U1": (
        f"texts of every kind; {test_texts.COUNT:,} odd ones compared byte for byte",
        "refused with their index before anything is sent, or sent unchanged",
    ),
    "U2": (
        "a text too large for any request; up to 16 refused ones among 2,048 (in other tests)",
        "named; refused texts are found by halving, and the others embedded",
    ),
    "P5": ("a clock that jumps an hour", "no effect"),
}

_KINDS = ("right", "typed", "wrong", "foreign", "hung")
_HEADS = ["Row", "What goes wrong", "Expected", "Runs", "Right", "Error", "Wrong", "Foreign", "Hung"]


def table(outcome: Callable[[Case, str], str]) -> list[list[object]]:
    """The rows of the table, by what comes of each case on each face."""
    counts = {row: Counter[str]() for row in ROWS}
    for case in CASES:
        counts[case.row].update(outcome(case, face) for face in FACES)
    return [
        [row, *ROWS[row], count.total(), *(count[kind] for kind in _KINDS)]
        for row, count in counts.items()
    ]  # fmt: skip


def declared() -> tuple[list[str], Iterable[Iterable[object]]]:
    """The table as it must be."""
    return _HEADS, table(lambda case, _: case.kind)


def main() -> None:
    """Runs every case on every face, and prints the table."""
    warnings.simplefilter("ignore", ResourceWarning)
    with Emulator() as emulator:
        measured = table(lambda case, face: run(case, face, emulator).kind)
    for row in measured:
        print(" | ".join(map(str, row)))
    if measured != table(lambda case, _: case.kind):
        sys.exit("Something came otherwise than it must: run the tests of tests/faults.")


if __name__ == "__main__":
    main()
