"""Keys of the emulator in the environment."""

from __future__ import annotations

import pytest


@pytest.fixture
def keys(emulator, monkeypatch):
    """Keys as vendors' clients look for them, and one more under another name."""
    monkeypatch.setenv("OPENAI_API_KEY", emulator.openai_key)
    monkeypatch.setenv("OPENAI_BASE_URL", emulator.openai_base_url)
    monkeypatch.setenv("VOYAGE_API_KEY", emulator.voyage_key)
    monkeypatch.setenv("SECOND_KEY", emulator.openai_key)
