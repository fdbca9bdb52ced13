import importlib
import sys

import pytest

from tests.cli.running import Runner
from tests.conftest import TINY_NOMIC


@pytest.fixture
def cli(monkeypatch, capsysbinary):
    """The command in this process: `cli("embed", "a").out`."""
    for variable in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(variable, raising=False)
    return Runner(monkeypatch, capsysbinary)


@pytest.fixture
def openai(emulator, monkeypatch):
    """The emulator in the place of OpenAI."""
    monkeypatch.setenv("OPENAI_BASE_URL", emulator.openai_base_url)
    monkeypatch.setenv("OPENAI_API_KEY", emulator.openai_key)
    return emulator


_PROVIDERS = """
from dataclasses import replace
from mrlclient import Nomic, Voyage, catalogue

class Local(Nomic):
    name = "local"

    @classmethod
    def find_spec(cls, model):
        return replace(catalogue().models["nomic:nomic-embed-text-v1.5"], provider="local")

    def __init__(self, model):
        super().__init__(model, model_path={folder!r})

class Remote(Voyage):
    name = "remote"

    @classmethod
    def find_spec(cls, model):
        return replace(catalogue().models["voyage:voyage-4"], provider="remote")

    def __init__(self, model):
        super().__init__(model, api_key={key!r}, base_url={url!r})
"""


@pytest.fixture
def others(emulator, tmp_path_factory, monkeypatch):
    """Two providers of a third party: `local:` is the tiny Nomic, `remote:` is Voyage at the emulator."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "others_mrl.py").write_text(
        _PROVIDERS.format(folder=str(TINY_NOMIC), key=emulator.voyage_key, url=emulator.voyage_base_url)
    )
    information = folder / "others_mrl-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: others-mrl\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[mrlclient.providers]\nlocal = others_mrl:Local\nremote = others_mrl:Remote\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    yield emulator
    sys.modules.pop("others_mrl", None)
