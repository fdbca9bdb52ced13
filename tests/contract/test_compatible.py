"""Servers with OpenAI's API: what each is trusted with, and what it may not do unnoticed with the width."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mrlclient import (
    BadRequestError,
    DimensionsMismatchError,
    Embedder,
    Nomic,
    NotMatryoshkaError,
    OpenAICompatible,
    ResponseContractError,
    ServerBehaviorWarning,
    catalogue,
)
from mrlclient.dimensions import resolve
from mrlclient.plan import Batch
from tests.conftest import TINY_NOMIC
from tests.contract.compatible_server import NOT_MATRYOSHKA, SPEC, CompatibleServer, expected, full_vectors, rows_of
from tests.faults.matrix import TEXTS, embed, waits_skipped

SERVERS = catalogue().servers
NOMIC = dataclasses.replace(
    catalogue().models["nomic:nomic-embed-text-v1.5"],
    provider="openai-compatible",
    name="nomic-embed-text",
    revision=None,
    checksums={},
)


@pytest.fixture(params=["sync", "asyncio"])
def face(request):
    return request.param


# --- the width


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_known_server_is_trusted_with(name, face):
    with CompatibleServer(dimensions=SERVERS[name].dimensions) as server:
        provider = OpenAICompatible(SPEC, base_url=server.url, server=name)
        with Embedder(provider, dimensions=64) as embedder:
            rows = embed(embedder, face, TEXTS)
            reduction = embedder.embed(TEXTS).reduction
    np.testing.assert_allclose(rows, expected(), atol=1e-6)
    trusted = SERVERS[name].dimensions == "honours"
    assert reduction == ("server" if trusted else "client")
    assert [request.get("dimensions") for request in server.requests] == [64 if trusted else None] * 2


@pytest.mark.parametrize("behaviour", ["honours", "ignores", "slices_without_l2", "pads", "refuses"])
def test_an_unknown_server_is_trusted_with_nothing(behaviour, face):
    with CompatibleServer(dimensions=behaviour) as server:
        np.testing.assert_allclose(rows_of(server, face), expected(), atol=1e-6)
    assert "dimensions" not in server.requests[0]


def test_the_declaration_is_trusted_as_the_row_is():
    spec = dataclasses.replace(SPEC, server_dimensions=(32, 128))
    with (
        CompatibleServer() as server,
        Embedder(OpenAICompatible(spec, base_url=server.url, server="vllm"), dimensions=64) as embedder,
    ):
        np.testing.assert_allclose(embedder.embed(TEXTS), expected(), atol=1e-6)
    assert server.requests[0]["dimensions"] == 128


def test_a_server_that_ignores_the_width_though_its_row_says_otherwise(face):
    with CompatibleServer(dimensions="ignores") as server, pytest.warns(ServerBehaviorWarning, match="ignored dimens"):
        np.testing.assert_allclose(rows_of(server, face, server="tei"), expected(), atol=1e-6)


@pytest.mark.parametrize("behaviour", ["slices_without_l2", "pads"])
def test_a_server_that_does_not_scale_though_its_row_says_otherwise(behaviour, face):
    with CompatibleServer(dimensions=behaviour) as server:
        np.testing.assert_allclose(rows_of(server, face, server="tei"), expected(), atol=1e-6)


def test_a_server_that_refuses_the_width_though_its_row_says_otherwise(face):
    with CompatibleServer(dimensions="refuses") as server, pytest.raises(BadRequestError) as caught:
        rows_of(server, face, server="tei")
    assert NOT_MATRYOSHKA in f"{caught.value}."
    assert str(caught.value).endswith("Leave server= and server_dimensions out: the full width is then asked for, and "
                                      "cut here")  # fmt: skip
    assert len(server.requests) == 1, "no text is to blame"


@pytest.mark.parametrize(
    ("behaviour", "pads_to", "server_name", "dimensions"),
    [("pads", 0, "tei", 512), ("honours", 1024, None, None), ("honours", 1024, None, 512)],
    ids=["to the width asked for", "to the declared width", "to the declared width, and cut here"],
)
def test_vectors_filled_up_with_zeros_are_no_wider_ones(behaviour, pads_to, server_name, dimensions, face):
    spec = dataclasses.replace(SPEC, native_dimensions=1024)
    with CompatibleServer(dimensions=behaviour, pads_to=pads_to) as server:
        provider = OpenAICompatible(spec, base_url=server.url, server=server_name)
        with Embedder(provider) as embedder, pytest.raises(DimensionsMismatchError) as caught:
            embed(embedder, face, TEXTS, dimensions)
    assert "256 dimensions, padded with zeros" in str(caught.value)
    assert not caught.value.retryable
    assert len(server.requests) == 1


def test_vectors_that_are_all_zero_are_not_called_padded():
    with CompatibleServer(lambda texts: np.zeros((len(texts), 256))) as server, waits_skipped():
        provider = OpenAICompatible(SPEC, base_url=server.url)
        with Embedder(provider) as embedder, pytest.raises(ResponseContractError, match="all zero"):
            embedder.embed(TEXTS)


@pytest.mark.parametrize("width", [128, 384])
def test_another_width_than_the_declared_one(width, face):
    with CompatibleServer(lambda texts: np.resize(full_vectors(texts), (len(texts), width))) as server:
        for dimensions in (None, 64):
            with pytest.raises(DimensionsMismatchError, match=f"{width} dimensions where 256"):
                rows_of(server, face, dimensions)


def test_a_model_that_is_not_matryoshka_is_refused_before_any_request():
    with CompatibleServer() as server:
        provider = OpenAICompatible(
            "bge-m3", native_dimensions=256, matryoshka=False, base_url=server.url, server="ollama"
        )
        with Embedder(provider) as embedder:
            for dimensions in (64, [256, 64]):
                with pytest.raises(NotMatryoshkaError):
                    embedder.embed(TEXTS, dimensions=dimensions)
            assert server.requests == []
            np.testing.assert_allclose(embedder.embed(TEXTS), full_vectors(TEXTS), atol=1e-6)
    assert "dimensions" not in server.requests[0]


# --- Nomic, whose recipe no server has


@pytest.fixture(scope="module")
def pooled():
    """What a server computes of Nomic: the pooled vectors, without layer norm, at unit length as Ollama and TEI."""
    provider = Nomic(model_path=TINY_NOMIC)

    def vectors(texts):
        batch = Batch(texts, range(len(texts)), resolve(provider.spec, None), None, False)
        rows = provider.send(batch).vectors
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    yield vectors
    provider.close()


@pytest.mark.parametrize("server_name", ["ollama", "tei", None])
@pytest.mark.parametrize("dimensions", [768, 256, 64])
def test_nomic_is_fetched_whole_and_centred_here(server_name, dimensions, pooled, face):
    with (
        CompatibleServer(pooled) as server,
        Embedder(OpenAICompatible(NOMIC, base_url=server.url, server=server_name), dimensions=dimensions) as there,
        Embedder(Nomic(model_path=TINY_NOMIC), dimensions=dimensions) as here,
    ):
        for role in ("query", "document"):
            rows = there.embed(TEXTS, input_type=role)
            np.testing.assert_allclose(rows, here.embed(TEXTS, input_type=role), atol=2e-6)
        embed(there, face, TEXTS)
        assert rows.reduction == ("native" if dimensions == 768 else "client")
    assert all("dimensions" not in request for request in server.requests)
    assert server.requests[0]["input"][0].startswith("search_query: ")


def test_a_server_cut_of_nomic_would_have_been_another_vector(pooled):
    with CompatibleServer(pooled) as server, Embedder(Nomic(model_path=TINY_NOMIC), dimensions=64) as here:
        wrong = dataclasses.replace(NOMIC, recipe="slice_l2")
        with Embedder(OpenAICompatible(wrong, base_url=server.url, server="ollama"), dimensions=64) as there:
            assert not np.allclose(there.embed(TEXTS), here.embed(TEXTS), atol=1e-2)


def test_from_a_server_to_the_same_model_here(pooled, face):
    here = Nomic(model_path=TINY_NOMIC)
    assert here.spec.space == NOMIC.space
    with CompatibleServer(pooled) as server, waits_skipped():
        there = OpenAICompatible(NOMIC, base_url=server.url, server="ollama")
        with Embedder(there, fallback=[here], dimensions=128, max_attempts=1) as embedder:
            first = embedder.embed(TEXTS)
            assert list(first.answered_by) == [f"openai-compatible:nomic-embed-text at {server.url}"]
            server._server.close()
            rows = embed(embedder, face, TEXTS)
            second = embedder.embed(TEXTS)
    assert list(second.answered_by) == ["nomic:nomic-embed-text-v1.5"]
    np.testing.assert_allclose(rows, first.embeddings, atol=2e-6)
