"""Where pages and examples run: an empty folder, the emulator's keys, and the commands that the pages type."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrlclient.testing import Emulator
from tests.conftest import TINY_NOMIC
from tests.docs.running import ROOT

_COMMANDS = {"python": "", "pytest": " -m pytest", "mrlclient": " -m mrlclient"}


@pytest.fixture
def sandbox(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with the keys of the emulator in the environment and a small Nomic model beside it."""
    work, commands = tmp_path / "work", tmp_path / "bin"
    work.mkdir()
    commands.mkdir()
    for name, arguments in _COMMANDS.items():
        shim = commands / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        shim.chmod(0o755)
    (work / "nomic-embed-text-v1.5").symlink_to(TINY_NOMIC)
    environment = {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{work}",
        "OPENAI_API_KEY": emulator.openai_key,
        "OPENAI_BASE_URL": emulator.openai_base_url,
        "VOYAGE_API_KEY": emulator.voyage_key,
        "AZURE_OPENAI_API_KEY": emulator.openai_key,
        "AZURE_OPENAI_ENDPOINT": emulator.url,
        "HF_HOME": str(tmp_path / "hub"),
        # A page's pytest is started anew, and needs none of the plugins that this one has.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))
    before, known = set(sys.modules), set(os.environ)
    yield work
    # So does a variable that it set.
    for name in set(os.environ) - known:
        del os.environ[name]
    # A module that a page wrote goes with its folder.
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(work)):
            del sys.modules[name]
