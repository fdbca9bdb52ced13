"""The provider contract on the real services: `pytest -m live`, with their keys in the environment. It costs cents."""

from __future__ import annotations

import pytest

from mrlclient import OpenAI, Voyage
from mrlclient.testing import ProviderContract
from tests.conftest import REAL_ENVIRONMENT

pytestmark = pytest.mark.live


class Live(ProviderContract):
    # Servers do not repeat themselves to the last digit.
    tolerance = 2e-3
    variable: str

    @pytest.fixture(autouse=True)
    def _key(self):
        if self.variable not in REAL_ENVIRONMENT:
            pytest.skip(f"{self.variable} is not set")

    @property
    def secrets(self):
        return (REAL_ENVIRONMENT[self.variable],)


class TestOpenAI(Live):
    variable = "OPENAI_API_KEY"

    def make_provider(self):
        return OpenAI("text-embedding-3-small", api_key=REAL_ENVIRONMENT[self.variable])


class TestVoyage(Live):
    variable = "VOYAGE_API_KEY"

    def make_provider(self):
        return Voyage("voyage-4-lite", api_key=REAL_ENVIRONMENT[self.variable])
