"""Servers with OpenAI's API: their answers, keys and refusals, and texts that they cut."""

from __future__ import annotations

import dataclasses
import socket

import numpy as np
import openai
import pytest

from mrlclient import (
    AuthenticationError,
    BadRequestError,
    Embedder,
    InputError,
    MissingCredentialsError,
    ModelMismatchError,
    OpenAICompatible,
    ProviderConnectionError,
    RateLimitError,
    ServerBehaviorWarning,
    ServerError,
)
from tests.contract.compatible_server import SPEC, CompatibleServer, expected, rows_of
from tests.faults.matrix import TEXTS, embed, waits_skipped


@pytest.fixture(params=["sync", "asyncio"])
def face(request):
    return request.param


# --- the answer


def test_lists_of_numbers_instead_of_base64(face):
    with CompatibleServer(base64=False) as server, pytest.warns(ServerBehaviorWarning, match="base64"):
        np.testing.assert_allclose(rows_of(server, face), expected(), atol=1e-6)


@pytest.mark.parametrize("name", ["other", "embed:latest", "/models/embed.gguf", "embed-v2", "EMBED"])
def test_an_answer_of_another_model_is_refused_until_it_is_declared(name, face):
    with CompatibleServer(model=name) as server:
        with pytest.raises(ModelMismatchError, match="answers_as") as caught:
            rows_of(server, face)
        assert repr(name) in str(caught.value)
        assert len(server.requests) == 1
        spec = dataclasses.replace(SPEC, answers_as=[name])
        with Embedder(OpenAICompatible(spec, base_url=server.url), dimensions=64) as embedder:
            np.testing.assert_allclose(embed(embedder, face, TEXTS), expected(), atol=1e-6)


def test_an_answer_without_a_name_is_taken(face):
    with CompatibleServer(model="") as server:
        np.testing.assert_allclose(rows_of(server, face), expected(), atol=1e-6)


# --- keys


def test_no_key_of_anybody_is_sent_unasked(face, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-key")
    with CompatibleServer() as server:
        rows_of(server, face)
    assert server.authorizations == [None]


def test_a_key_is_sent_where_one_is_given(face, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", "k-2")
    with CompatibleServer(key="k-2") as server:
        rows_of(server, face, api_key="k-2")
        rows_of(server, face, api_key_env="SERVER_KEY")
        with pytest.raises(AuthenticationError, match=r"Unauthorized. No key was sent: pass api_key or api_key_env"):
            rows_of(server, face)
        with pytest.raises(AuthenticationError, match=r"Unauthorized$"):
            rows_of(server, face, api_key="k-1")
    assert server.authorizations[:2] == ["Bearer k-2", "Bearer k-2"]
    monkeypatch.delenv("SERVER_KEY")
    with pytest.raises(MissingCredentialsError, match="Set SERVER_KEY"):
        rows_of(server, api_key_env="SERVER_KEY")


def test_an_official_client():
    with CompatibleServer(key="k-2") as server, openai.OpenAI(base_url=server.url, api_key="k-2") as client:
        with Embedder(OpenAICompatible(SPEC, client=client, server="tei"), dimensions=64) as embedder:
            np.testing.assert_allclose(embedder.embed(TEXTS), expected(), atol=1e-6)
        assert server.requests[0]["dimensions"] == 64


def test_a_server_that_is_down_is_named_by_its_provider():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1"
    client = openai.OpenAI(base_url=url, api_key="k", timeout=5)
    for provider in (OpenAICompatible(SPEC, base_url=url), OpenAICompatible(SPEC, client=client)):
        with Embedder(provider, max_attempts=1) as embedder, pytest.raises(ProviderConnectionError) as caught:
            embedder.embed(TEXTS)
        assert str(caught.value).startswith(f"openai-compatible at 127.0.0.1:{port}: ConnectError")
        assert caught.value.provider == "openai-compatible"
    client.close()


# --- refusals


def tei(message, kind, status):
    return status, {"message": message, "code": status, "type": kind}


@pytest.mark.parametrize(
    ("answer", "kind", "attempts"),
    [
        (tei("inference failed", "Backend", 424), ServerError, 4),
        (tei("Model is overloaded", "Overloaded", 429), RateLimitError, 4),
        (tei("unhealthy", "Unhealthy", 503), ServerError, 4),
        ((424, {"error": "inference failed", "error_type": "Backend"}), ServerError, 4),
        ((404, {"error": 'model "embed" not found, try pulling it first'}), BadRequestError, 1),
    ],
)
def test_what_is_tried_again(answer, kind, attempts, face):
    with CompatibleServer(refuse=lambda texts: answer) as server, pytest.raises(kind) as caught:
        rows_of(server, face)
    said = answer[1].get("message") or answer[1]["error"]
    assert said in str(caught.value)
    assert caught.value.provider == "openai-compatible"
    assert len(server.requests) == attempts


def test_a_failure_that_passes(face):
    answers = [tei("inference failed", "Backend", 424), tei("Model is overloaded", "Overloaded", 429)]
    with CompatibleServer(refuse=lambda texts: answers.pop() if answers else None) as server:
        np.testing.assert_allclose(rows_of(server, face), expected(), atol=1e-6)
    assert len(server.requests) == 3


def test_a_request_of_too_many_texts_is_halved(face):
    def refuse(texts):
        words = f"batch size {len(texts)} > maximum allowed batch size 2"
        return tei(words, "Validation", 422) if len(texts) > 2 else None

    with CompatibleServer(refuse=refuse) as server:
        np.testing.assert_allclose(rows_of(server, face), expected(), atol=1e-6)
    assert sorted(len(request["input"]) for request in server.requests) == [1, 2, 3]


def test_an_overlong_text_costs_the_others_nothing(face):
    """llama.cpp says 500 for it, for all texts of the request, and at every further attempt."""
    long = "whale " * 600

    def refuse(texts):
        words = "input (1201 tokens) is too large to process. increase the physical batch size"
        return (500, {"error": {"code": 500, "message": words, "type": "server_error"}}) if long in texts else None

    with CompatibleServer(refuse=refuse) as server:
        provider = OpenAICompatible(SPEC, base_url=server.url, server="llama-cpp")
        with Embedder(provider, dimensions=64) as embedder, waits_skipped() as waits:
            result = embedder.embed([*TEXTS, long], on_error="return")
    assert set(result.errors) == {3}
    assert "too large to process" in str(result.errors[3])
    np.testing.assert_allclose(result.embeddings[:3], expected(), atol=1e-6)
    assert waits == []


# --- texts that a server cuts


def test_a_text_that_a_server_may_have_cut_is_told_of():
    spec = dataclasses.replace(SPEC, max_input_tokens=2000)
    with CompatibleServer() as server:
        with (
            Embedder(OpenAICompatible(spec, base_url=server.url, server="ollama")) as embedder,
            pytest.warns(ServerBehaviorWarning, match="more than 2000 tokens.* count_tokens="),
        ):
            embedder.embed(["whale " * 2001])
        for options in ({"server": "ollama"}, {"server": "llama-cpp"}, {}):
            text = "whale" if options.get("server") == "ollama" else "whale " * 2001
            with Embedder(OpenAICompatible(spec, base_url=server.url, **options)) as embedder:
                embedder.embed([text])
        wanted = OpenAICompatible(spec, base_url=server.url, server="ollama")
        with Embedder(wanted, truncate_input=True) as embedder:
            embedder.embed(["whale " * 2001])


def test_a_text_that_is_counted_is_refused_instead():
    spec = dataclasses.replace(SPEC, max_input_tokens=2000)
    with CompatibleServer() as server:
        provider = OpenAICompatible(
            spec, base_url=server.url, server="ollama", count_tokens=lambda texts: [len(t.split()) for t in texts]
        )
        with Embedder(provider) as embedder:
            with pytest.raises(InputError, match="has 2001 tokens"):
                embedder.embed(["whale " * 2001])
            embedder.embed(["whale " * 2000])
    assert len(server.requests) == 1
