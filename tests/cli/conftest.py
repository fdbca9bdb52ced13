import pytest

from tests.cli.running import Runner


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
