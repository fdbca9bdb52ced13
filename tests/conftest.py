"""What every test stands on: no real keys, no real network, one emulator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrlclient.testing import Emulator

TINY_NOMIC = Path(__file__).parent / "tiny-nomic"

#: What the environment held of ours; only the tests marked `live` use it.
REAL_ENVIRONMENT = {
    name: os.environ.pop(name)
    for name in list(os.environ)
    if name.startswith(("OPENAI_", "VOYAGE_", "MRLCLIENT_", "HF_"))
}


@pytest.fixture(scope="session")
def _running_emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(_running_emulator: Emulator) -> Iterator[Emulator]:
    """The loopback emulator, with an empty log and no faults."""
    _running_emulator.clear()
    yield _running_emulator
    _running_emulator.clear()
