"""The one provider contract, for every provider and every transport, under threads, asyncio and trio."""

from __future__ import annotations

import dataclasses

import numpy as np
import openai
import pytest
import voyageai

from mrlclient import Nomic, OpenAI, OpenAICompatible, Voyage, WordLlama
from mrlclient.models import find_model
from mrlclient.testing import Emulator, ProviderContract
from mrlclient.testing.emulator import emulator_vector
from tests.conftest import TINY_NOMIC
from tests.contract.compatible_server import SPEC, CompatibleServer, full_vectors


class Hosted(ProviderContract):
    """Against the emulator, whose log and vectors are the oracle."""

    model: str
    emulator: Emulator
    # The emulator's own cut differs from slice and L2 by up to 1e-4, as OpenAI's does.
    tolerance = 2e-4

    @pytest.fixture(autouse=True)
    def _attach(self, emulator):
        type(self).emulator = emulator
        yield
        for request in emulator.requests:
            assert request.status == 200, "planning should have caught what the server refused"
            assert request.body["encoding_format"] == "base64"
            assert request.provider != "voyage" or "dimensions" not in request.body

    @property
    def secrets(self):
        return (self.emulator.openai_key, self.emulator.voyage_key)

    def requests_seen(self):
        return [(request.connection, request.status, request.body) for request in self.emulator.requests]

    def oracle(self, texts, dimensions, input_type):
        assert dimensions == find_model(self.model).native_dimensions
        role = input_type if self.model.startswith("voyage") else None
        return np.array([emulator_vector(self.model, text, input_type=role) for text in texts])


class TestOpenAI(Hosted):
    model = "openai:text-embedding-3-small"

    def make_provider(self):
        return OpenAI(self.model, api_key=self.emulator.openai_key, base_url=self.emulator.openai_base_url)


class TestOpenAIFixed(Hosted):
    model = "openai:text-embedding-ada-002"

    def make_provider(self):
        return OpenAI(self.model, api_key=self.emulator.openai_key, base_url=self.emulator.openai_base_url)


class TestOpenAIClient(Hosted):
    model = "openai:text-embedding-3-large"

    def make_provider(self):
        client = openai.OpenAI(api_key=self.emulator.openai_key, base_url=self.emulator.openai_base_url)
        return OpenAI(self.model, client=client)


class TestAsyncOpenAIClient(Hosted):
    model = "openai:text-embedding-3-small"
    faces = ("asyncio", "trio")
    one_loop = True
    clients = []  # noqa: RUF012

    def make_provider(self):
        client = openai.AsyncOpenAI(api_key=self.emulator.openai_key, base_url=self.emulator.openai_base_url)
        self.clients.append(client)
        return OpenAI(self.model, client=client)

    async def cleanup(self):
        while self.clients:
            await self.clients.pop().close()


class TestAzureOpenAIClient(Hosted):
    model = "openai:text-embedding-3-small"

    def make_provider(self):
        client = openai.AzureOpenAI(
            api_key=self.emulator.openai_key, azure_endpoint=self.emulator.url, api_version="2024-10-21"
        )
        return OpenAI(self.model, client=client)


class TestVoyage(Hosted):
    model = "voyage:voyage-4"

    def make_provider(self):
        return Voyage(self.model, api_key=self.emulator.voyage_key, base_url=self.emulator.voyage_base_url)


class TestVoyageFixed(Hosted):
    model = "voyage:voyage-law-2"

    def make_provider(self):
        return Voyage(self.model, api_key=self.emulator.voyage_key, base_url=self.emulator.voyage_base_url)


class TestVoyageClient(Hosted):
    model = "voyage:voyage-3.5"

    def make_provider(self):
        return Voyage(
            self.model, client=voyageai.Client(self.emulator.voyage_key, base_url=self.emulator.voyage_base_url)
        )


class TestVoyageAsyncClient(Hosted):
    model = "voyage:voyage-4-lite"
    faces = ("asyncio",)
    one_loop = True

    def make_provider(self):
        client = voyageai.AsyncClient(self.emulator.voyage_key, base_url=self.emulator.voyage_base_url)
        return Voyage(self.model, client=client)


class TestCompatible(Hosted):
    """Over HTTP, with the width sent; the emulator is any server with OpenAI's API."""

    model = "openai:text-embedding-3-small"

    def spec(self):
        return dataclasses.replace(find_model(self.model), provider="openai-compatible")

    def make_provider(self):
        return OpenAICompatible(self.spec(), api_key=self.emulator.openai_key, base_url=self.emulator.openai_base_url)


class TestCompatibleClient(TestCompatible):
    def make_provider(self):
        client = openai.OpenAI(api_key=self.emulator.openai_key, base_url=self.emulator.openai_base_url)
        return OpenAICompatible(self.spec(), client=client)


class TestCompatibleAsyncClient(TestCompatible):
    faces = ("asyncio", "trio")
    one_loop = True
    clients = []  # noqa: RUF012

    def make_provider(self):
        client = openai.AsyncOpenAI(api_key=self.emulator.openai_key, base_url=self.emulator.openai_base_url)
        self.clients.append(client)
        return OpenAICompatible(self.spec(), client=client)

    async def cleanup(self):
        while self.clients:
            await self.clients.pop().close()


class TestCompatibleWithoutKey(ProviderContract):
    """A server of which nothing is known: the full width is asked for, and cut here."""

    server: CompatibleServer

    @pytest.fixture(autouse=True)
    def _attach(self):
        with CompatibleServer(dimensions="refuses") as server:
            type(self).server = server
            yield

    def make_provider(self):
        return OpenAICompatible(SPEC, base_url=self.server.url)

    def requests_seen(self):
        return list(self.server.requests)

    def oracle(self, texts, dimensions, input_type):
        assert dimensions == SPEC.native_dimensions
        return full_vectors(texts)


class TestNomic(ProviderContract):
    def make_provider(self):
        return Nomic("nomic-embed-text-v1.5", model_path=TINY_NOMIC)


class TestNomicFixed(ProviderContract):
    def make_provider(self):
        return Nomic("nomic-embed-text-v1", model_path=TINY_NOMIC)


class TestWordLlama(ProviderContract):
    def make_provider(self):
        return WordLlama()
