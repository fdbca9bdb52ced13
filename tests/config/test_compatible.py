"""Profiles of servers with OpenAI's API."""

from __future__ import annotations

import pytest

from mrlclient import ConfigurationError, Embedder, OpenAICompatible
from tests.contract.compatible_server import SPEC, CompatibleServer, expected
from tests.faults.matrix import TEXTS

SHORT = {"native_dimensions": 256, "matryoshka": True}

PROFILES = {
    "an address": {"model": "openai-compatible:embed", "spec": SHORT, "base_url": "http://gpu-1:8000/v1"},
    "a server": {"model": "openai-compatible:embed:latest", "spec": SHORT, "server": "ollama", "dimensions": 64},
    "all": {
        "model": "openai-compatible:/models/embed.gguf",
        "spec": SHORT | {"server_dimensions": [64, 256], "answers_as": ["embed"], "space": "acme"},
        "base_url": "https://gpu-1/v1",
        "server": "llama-cpp",
        "api_key_env": "SECOND_KEY",
        "timeout": 5.0,
    },
    "a fallback": {
        "model": "nomic:nomic-embed-text-v1.5",
        "fallback": [
            {
                "model": "openai-compatible:nomic-embed-text",
                "spec": {
                    "native_dimensions": 768,
                    "matryoshka": True,
                    "recipe": "center_slice_l2",
                    "space": "nomic/v1.5",
                },
                "server": "ollama",
            }
        ],
    },
}


@pytest.mark.parametrize("values", PROFILES.values(), ids=PROFILES)
def test_round_trip(values, keys):
    with Embedder.from_dict(values) as embedder:
        assert embedder.to_dict() == values


def test_what_is_made_of_it_is_what_the_code_makes():
    with Embedder.from_dict(PROFILES["a server"]) as embedder:
        provider = embedder._engine.documents.main.provider
        made = OpenAICompatible("embed:latest", server="ollama", **SHORT)
        assert (provider.spec, provider.settings()) == (made.spec, made.settings())
        assert provider.spec.server_dimensions == "any"


def test_width_and_kind_may_stand_beside_the_name():
    values = {"model": "openai-compatible:embed", "server": "ollama", **SHORT}
    with Embedder.from_dict(values) as embedder:
        assert embedder.spec.native_dimensions == 256
        written = {"model": "openai-compatible:embed", "server": "ollama", "spec": SHORT}
        assert embedder.to_dict() == written
    with Embedder.from_dict(written) as other:
        assert other.spec == embedder.spec


def test_it_embeds():
    with CompatibleServer() as server:
        values = {"model": "openai-compatible:embed", "spec": SHORT, "base_url": server.url, "dimensions": 64}
        with Embedder.from_dict(values) as embedder:
            assert embedder.spec == SPEC
            assert abs(embedder.embed(TEXTS).embeddings - expected()).max() < 1e-6


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base_url": None}, "Pass base_url="),
        ({"spec": None}, "Declare it"),
        ({"spec": None, "native_dimensions": 256}, "matryoshka: is missing"),
        ({"spec": None, "matryoshka": True}, "native_dimensions: is missing"),
        ({"native_dimensions": 256}, "leave them out"),
        ({"server": "olama"}, "Did you mean 'ollama'"),
        ({"api_key": "sk-canary"}, 'api_key_env = "SERVER_API_KEY"'),
        ({"base_url": "http://gpu-1/v1", "api_key_env": "SECOND_KEY"}, "unencrypted"),
        ({"deployment": "x"}, "no such key"),
    ],
)
def test_what_is_wrong_with_it(changes, says, keys):
    values = {"model": "openai-compatible:embed", "spec": SHORT, "base_url": "http://gpu-1:8000/v1"} | changes
    with pytest.raises(ConfigurationError, match=says) as caught:
        Embedder.from_dict({name: value for name, value in values.items() if value is not None})
    assert "sk-canary" not in str(caught.value)
