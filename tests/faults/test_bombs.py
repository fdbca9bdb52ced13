"""N5: answers that are far larger than they look. Cut off or refused; memory grows by 64 MB at most."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mrlclient import BadRequestError, ProviderConnectionError, ResponseContractError, ServerError
from tests.faults.bombs import BOMBS
from tests.faults.matrix import Case, check, named, of_script
from tests.faults.server import Connection, right_answer, serving

MOST_GROWTH = 64 * 2**20


def error_of(name: str) -> type:
    status = BOMBS[name][1]
    if "without end" in name:
        return ProviderConnectionError
    return ResponseContractError if status is None else BadRequestError if status < 500 else ServerError


CASES = [
    Case(row="N5", name=name, inject=of_script(script, timeout=20.0), expects=error_of(name), attempts=attempts)
    for name, (script, _, attempts) in BOMBS.items()
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)


def test_memory(face):
    """Measured in a process of its own, after a good answer: by how much the peak grows over all bombs."""
    scripts = [script for script, _, _ in BOMBS.values()]

    def script(connection: Connection) -> None:
        if connection.number == 1:
            # Closed by both: else the next request may come on it, just before this end of it goes away.
            connection.send(right_answer(connection.read_request(), "connection: close\r\n"))
        else:
            scripts[connection.number - 2](connection)

    with serving(script) as server:
        run = subprocess.run(
            [sys.executable, "-m", "tests.faults.bombs", server.url, face],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["errors"] == [error_of(name).__name__ for name in BOMBS]
    assert said["grown"] <= MOST_GROWTH
