"""Where a cache file goes, and a clock."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite"


@pytest.fixture
def clock(monkeypatch):
    """The time that caches see; set `clock.now`."""
    clock = SimpleNamespace(now=1_800_000_000.0)
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock
