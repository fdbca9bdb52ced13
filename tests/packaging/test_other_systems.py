"""What the package asks of a system that not every system has. The tests run on Linux: here it is taken away."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mrlclient import Canary
from mrlclient.cache import SQLiteCache
from mrlclient.cache.address import kind_of
from mrlclient.canary import CANARY_TEXTS
from mrlclient.vectors import l2_normalize

#: What Windows does not have of what stands in `os`, as far as the package or a library might look at it.
_NOT_ON_WINDOWS = (
    "fork",
    "register_at_fork",
    "sched_getaffinity",
    "pread",
    "preadv",
    "pwrite",
    "pwritev",
    "fchmod",
    "fchown",
    "geteuid",
    "getuid",
    "O_NOFOLLOW",
    "O_NONBLOCK",
    "O_CLOEXEC",
    "O_DIRECTORY",
)

_EVERYTHING = """
import asyncio, os, sys
for name in sys.argv[4].split():
    delattr(os, name)
sys.modules["resource"] = sys.modules["pwd"] = sys.modules["grp"] = None

from mrlclient import Canary, Embedder, Limits, OpenAI
from mrlclient.__main__ import main
from mrlclient.testing import Emulator

folder = sys.argv[3]
provider = OpenAI("text-embedding-3-small", api_key=sys.argv[1], base_url=sys.argv[2])
texts = [f"text {i}" for i in range(3000)]
with Embedder(
    provider, cache=os.path.join(folder, "a", "cache.db"), canary=Canary(os.path.join(folder, "b", "canary.json")),
    limits=Limits(requests_per_minute=1000),
) as embedder:
    first = embedder.embed(texts)
    again = embedder.embed(texts)
    later = asyncio.run(embedder.aembed([*texts, "one more"]))
    assert (first.usage.cached_texts, again.usage.cached_texts, later.usage.cached_texts) == (0, 3000, 3000)
    assert (first.embeddings == again.embeddings).all()
status = main(["embed", "a text", "--output", os.path.join(folder, "out.npy")])
status |= main(["cache", "export", os.path.join(folder, "a", "cache.db"), "--output", os.path.join(folder, "all.npy")])
status |= main(["cache", "clear", os.path.join(folder, "a", "cache.db"), "--yes"])
print(status)
"""


def test_without_what_windows_has_not(emulator, tmp_path):
    names = [name for name in _NOT_ON_WINDOWS if hasattr(os, name)]
    arguments = [emulator.openai_key, emulator.openai_base_url, tmp_path, " ".join(names)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _EVERYTHING, *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.endswith("0\n")
    assert np.load(tmp_path / "all.npy").shape == (3001, 1536)
    assert len(json.loads((tmp_path / "b" / "canary.json").read_text())["entries"]) == 1


@pytest.mark.parametrize("refusal", [IsADirectoryError(errno.EISDIR, ""), PermissionError(errno.EACCES, "")])
def test_a_root_that_does_not_say_that_it_is_there(refusal, tmp_path, monkeypatch):
    """The first is what macOS says, the second what Windows says of a drive."""
    make = os.mkdir

    def mkdir(folder, *arguments, **options):
        if os.fspath(folder) == tmp_path.anchor:
            raise refusal
        make(folder, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(type(refusal)):
        Path(tmp_path.anchor).mkdir()
    SQLiteCache(tmp_path / "a" / "cache.db").close()
    rows = l2_normalize(np.eye(len(CANARY_TEXTS), 16, dtype=np.float32))
    Canary(tmp_path / "b" / "canary.json").record_or_check(("a",), rows, 1e9, model="acme:m")
    assert (tmp_path / "b" / "canary.json").exists()


@pytest.mark.parametrize(
    "where", [r"C:\Users\ann\vectors.db", "C:/vectors.db", r"\\server\share\vectors.db", "vectors.db"]
)
def test_a_path_of_windows_is_a_file(where):
    """A drive's letter is no scheme."""
    assert kind_of(where) == kind_of(f"sqlite:{where}") == "file"
