"""An embedder over several endpoints, with a model of its own for queries, limits, a canary and spans."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import numpy as np
import openai
import pytest

from mrlclient import (
    Canary,
    ConfigurationError,
    DimensionsOutOfRangeError,
    DriftError,
    Embedder,
    IncompatibleSpaceError,
    Limits,
    ModelSpec,
    Nomic,
    OpenAI,
    ServerError,
    Voyage,
    WordLlama,
    catalogue,
)
from mrlclient.canary import CANARY_TEXTS
from mrlclient.testing import Emulator
from mrlclient.testing.emulator import FAULTS, Fault, emulator_vector
from tests.conftest import TINY_NOMIC

TEXTS = ["whales live in the sea", "bread needs flour", "a third text"]
FACES = ["sync", "asyncio"]


@pytest.fixture
def other():
    """A second server."""
    with Emulator() as emulator:
        yield emulator


def voyage(emulator, model="voyage-4-large", **options):
    return Voyage(model, api_key=emulator.voyage_key, base_url=emulator.voyage_base_url, **options)


def openai_at(emulator, model="text-embedding-3-small", **options):
    return OpenAI(model, api_key=emulator.openai_key, base_url=emulator.openai_base_url, **options)


def embed(embedder, face, *args, **options):
    if face == "sync":
        return embedder.embed(*args, **options)
    return asyncio.run(embedder.aembed(*args, **options))


def expected(model, texts, width, **role):
    return np.array([emulator_vector(model, text, dimensions=width, **role) for text in texts])


@pytest.mark.parametrize("face", FACES)
def test_the_next_endpoint_of_the_space_answers(face, emulator, other):
    emulator.faults.append(Fault(status=503, times=99))
    with Embedder(voyage(emulator), dimensions=512, fallback=[voyage(other, "voyage-4-lite")]) as embedder:
        result = embed(embedder, face, TEXTS, input_type="document")
        assert result.answered_by == {f"voyage:voyage-4-lite at {other.voyage_base_url}": 3}
        wanted = expected("voyage:voyage-4-lite", TEXTS, 512, input_type="document")
        np.testing.assert_allclose(result.embeddings, wanted, atol=2e-4)
        assert result.usage.usd == pytest.approx(result.usage.tokens * 0.02e-6)
        assert (len(emulator.requests), len(other.requests)) == (1, 1)
        for _ in range(4):
            embed(embedder, face, TEXTS)
        assert (len(emulator.requests), len(other.requests)) == (3, 5), "left out after three failures"


def test_what_the_fallback_answered_is_not_kept_as_the_main_models(emulator, other, tmp_path, caplog):
    emulator.faults.append(Fault(status=503, times=3))
    options = {"cache": tmp_path / "vectors.db", "dimensions": 512, "fallback": [voyage(other, "voyage-4-lite")]}
    with Embedder(voyage(emulator), **options) as embedder, caplog.at_level(logging.WARNING, "mrlclient"):
        for _ in range(3):
            assert embedder.embed(TEXTS).answered_by.keys() == {f"voyage:voyage-4-lite at {other.voyage_base_url}"}
        [record] = caplog.records
        assert record.mrl_event == "endpoint_out"
        embedder._engine.documents.main.health.succeeded()
        result = embedder.embed(TEXTS)
        assert result.usage.cached_texts == 0
        np.testing.assert_allclose(result.embeddings, expected("voyage:voyage-4-large", TEXTS, 512), atol=2e-4)
        assert embedder.embed(TEXTS).usage.cached_texts == 3


def test_the_same_model_elsewhere_shares_the_cache(emulator, tmp_path):
    client = openai.AzureOpenAI(
        api_key=emulator.openai_key, azure_endpoint=emulator.url, api_version="2024-10-21", max_retries=0
    )
    emulator.faults.append(Fault(status=500, when=lambda request: "/deployments/" not in request.path, times=3))
    azure = OpenAI("text-embedding-3-small", client=client)
    with Embedder(openai_at(emulator), fallback=[azure], cache=tmp_path / "vectors.db") as embedder:
        assert list(embedder.embed(TEXTS).answered_by) == [f"openai:text-embedding-3-small at {azure.origin}"]
        result = embedder.embed(TEXTS)
        assert (result.usage.cached_texts, result.answered_by) == (3, {})


def test_a_hosted_model_and_the_same_on_this_machine(emulator):
    local = Nomic(model_path=TINY_NOMIC)
    hosted = ModelSpec(
        provider="openai", name="nomic-embed-text-v1.5", native_dimensions=768, matryoshka=True,
        space=local.spec.space, recipe="center_slice_l2", prompts=local.spec.prompts, default_input_type="document",
    )  # fmt: skip
    emulator.faults.append(Fault(status=500, times=9))
    with Embedder(openai_at(emulator, hosted), dimensions=256, fallback=[local]) as embedder:
        result = embedder.embed(TEXTS, input_type="query")
    with Embedder(Nomic(model_path=TINY_NOMIC), dimensions=256) as alone:
        np.testing.assert_allclose(result.embeddings, alone.embed(TEXTS, input_type="query").embeddings, atol=1e-5)
    assert result.answered_by == {"nomic:nomic-embed-text-v1.5": 3}


def test_equals_share_the_requests(emulator, other):
    spec = dataclasses.replace(catalogue().models["openai:text-embedding-3-small"], max_inputs=20)
    texts = [f"text {i}" for i in range(20 * 4)]
    for each in (emulator, other):
        each.faults.extend([Fault(delay=0.3)] * 4)
    with Embedder(
        openai_at(emulator, spec), endpoints=[openai_at(other, spec)], dimensions=8, on_narrow="allow"
    ) as embedder:
        result = embedder.embed(texts)
    assert set(result.answered_by.values()) == {40}
    assert len(emulator.requests) == len(other.requests) == 2


def test_queries_have_a_model_of_their_own(emulator):
    with Embedder(voyage(emulator), query_model=voyage(emulator, "voyage-4-lite"), dimensions=256) as embedder:
        documents, query = embedder.embed_documents(TEXTS), embedder.embed_query(TEXTS[0])
        assert embedder.embed(TEXTS).spec.name == "voyage-4-large"
        assert embedder.embed(TEXTS, input_type="query").spec.name == "voyage-4-lite"
    lite = expected("voyage:voyage-4-lite", TEXTS[:1], 256, input_type="query")
    np.testing.assert_allclose(query, lite[0], atol=2e-4)
    np.testing.assert_allclose(
        documents, expected("voyage:voyage-4-large", TEXTS, 256, input_type="document"), atol=2e-4
    )


LARGE = "openai:text-embedding-3-large"


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"fallback": [LARGE]}, IncompatibleSpaceError, "may not be compared"),
        ({"endpoints": [LARGE]}, IncompatibleSpaceError, "may not be compared"),
        ({"query_model": LARGE}, IncompatibleSpaceError, "may not be compared"),
        ({"fallback": LARGE}, ConfigurationError, "fallback must be a list of models"),
        ({"fallback": [3]}, ConfigurationError, "A model is an address"),
        ({"limits": {"requests_per_minute": 3}}, ConfigurationError, "limits must be mrlclient.Limits"),
        ({"canary": "canary.json"}, ConfigurationError, "canary must be mrlclient.Canary"),
        ({"deadline": 0}, ConfigurationError, "deadline must be a positive number"),
        ({"deadline": True}, ConfigurationError, "deadline must be a positive number"),
    ],
)
def test_what_is_refused_before_a_key_is_looked_for(options, kind, says):
    with pytest.raises(kind, match=says):
        Embedder("openai:text-embedding-3-small", **options)


def test_a_width_that_the_fallback_has_not():
    spec = catalogue().models["openai:text-embedding-3-small"]
    narrower = dataclasses.replace(spec, name="half", native_dimensions=768)
    with pytest.raises(DimensionsOutOfRangeError, match="half gives 1 to 768"):
        Embedder(spec, fallback=[narrower])
    with pytest.raises(ConfigurationError, match="on_error must be"), Embedder(WordLlama()) as embedder:
        embedder.embed(["a"], on_error="ignore")


def test_limits_are_the_accounts(emulator):
    limits = Limits(requests_per_minute=60_000, max_in_flight=2)
    # A model that no other test uses here: a gate lives as long as the last embedder of its account.
    model = "text-embedding-3-large"
    spec = dataclasses.replace(catalogue().models[f"openai:{model}"], max_inputs=20)
    with Embedder(openai_at(emulator, spec), limits=limits) as one, Embedder(openai_at(emulator, model)) as same:
        gate = one._engine.documents.main.gate
        assert gate is same._engine.documents.main.gate
        assert gate._meter.requests.limit == 60_000
        emulator.faults.extend([Fault(delay=0.2)] * 4)
        one.embed([f"text {i}" for i in range(20 * 4)])
    assert len({request.connection for request in emulator.requests}) <= 2


def test_the_catalogues_limits_hold_for_the_vendors_own_address(monkeypatch, emulator):
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-test")
    with Embedder("voyage:voyage-4") as vendors, Embedder(voyage(emulator, "voyage-4")) as elsewhere:
        meter = vendors._engine.documents.main.gate._meter
        assert (meter.requests.limit, meter.tokens.limit) == (2000, 8_000_000)
        assert elsewhere._engine.documents.main.gate._meter.requests.limit == float("inf")


# The canary


@pytest.mark.parametrize("face", FACES)
def test_the_canary_is_checked_once_a_day(face, emulator, tmp_path):
    canary = Canary(tmp_path / "canary.json")
    with Embedder(voyage(emulator), dimensions=256, canary=canary, cache="memory:") as embedder:
        for _ in range(3):
            embed(embedder, face, TEXTS)
    sent = [request.body["input"] for request in emulator.requests]
    assert sent == [list(CANARY_TEXTS), TEXTS]
    assert emulator.requests[0].body["output_dimension"] == 2048


@pytest.mark.parametrize("face", FACES)
def test_another_model_behind_the_name_stops_everything(face, emulator, tmp_path):
    canary = Canary(tmp_path / "canary.json", every=1e-6)
    with Embedder(openai_at(emulator), canary=canary) as small:
        embed(small, face, TEXTS)
        embed(small, face, TEXTS)
        emulator.faults.append(dataclasses.replace(FAULTS["order_reversed"], edit=_swapped))
        with pytest.raises(DriftError) as caught:
            embed(small, face, TEXTS)
        assert caught.value.cosine < 0.999
        emulator.clear()
        with pytest.raises(DriftError):
            embed(small, face, TEXTS)
        assert emulator.requests == [], "it stays stopped, at no cost"
        canary.accept(small.model)
        embed(small, face, TEXTS)
        assert len(emulator.requests) == 2


def _swapped(payload):
    """The vectors of two texts in each other's place, with good indices: as from another model."""
    data = payload["data"]
    first, second = data[0]["embedding"], data[1]["embedding"]
    return payload | {"data": [data[0] | {"embedding": second}, data[1] | {"embedding": first}, *data[2:]]}


def test_a_canary_that_cannot_be_asked_stops_nothing_but_this_call(emulator, tmp_path):
    emulator.faults.append(Fault(status=500))
    canary = Canary(tmp_path / "canary.json")
    with Embedder(openai_at(emulator), canary=canary, max_attempts=1) as embedder:
        with pytest.raises(ServerError):
            embedder.embed(TEXTS)
        assert len(embedder.embed(TEXTS)) == 3


# Spans


@pytest.fixture
def spans(monkeypatch):
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


@pytest.mark.parametrize("face", FACES)
def test_a_span_around_each_call(face, emulator, spans):
    emulator.faults.append(Fault(status=503))
    with Embedder(openai_at(emulator), dimensions=256, on_narrow="allow") as embedder:
        result = embed(embedder, face, TEXTS)
        emulator.faults.append(Fault(status=401))
        with pytest.raises(Exception, match="401"):
            embed(embedder, face, TEXTS)
    good, bad = spans.get_finished_spans()
    assert good.name == "embeddings text-embedding-3-small"
    assert good.attributes["gen_ai.embeddings.dimension.count"] == 256
    assert good.attributes["gen_ai.usage.input_tokens"] == result.usage.tokens
    assert good.attributes["gen_ai.response.model"] == "text-embedding-3-small"
    assert good.attributes["mrlclient.requests"] == 2
    assert (good.attributes["server.address"], good.attributes["server.port"]) == (
        "127.0.0.1",
        int(emulator.url.rpartition(":")[2]),
    )
    assert bad.attributes["error.type"] == "AuthenticationError"


def test_the_span_is_current_in_every_thread_of_a_call(emulator, spans):
    from opentelemetry import trace

    seen = []
    provider = openai_at(
        emulator, dataclasses.replace(catalogue().models["openai:text-embedding-3-small"], max_inputs=20)
    )
    send = provider.send

    def watched(*arguments):
        seen.append(trace.get_current_span().get_span_context().trace_id)
        return send(*arguments)

    provider.send = watched
    with Embedder(provider, dimensions=8, on_narrow="allow") as embedder:
        embedder.embed([f"text {i}" for i in range(60)])
    [span] = spans.get_finished_spans()
    assert seen == [span.context.trace_id] * 3


def test_queries_fall_back_too(emulator, other):
    emulator.faults.append(Fault(status=503, times=99))
    options = {"query_model": voyage(emulator, "voyage-4-lite"), "fallback": [voyage(other, "voyage-4")]}
    with Embedder(voyage(emulator), dimensions=256, **options) as embedder:
        for role in ("query", "document"):
            result = embedder.embed(TEXTS, input_type=role)
            assert result.answered_by == {f"voyage:voyage-4 at {other.voyage_base_url}": 3}


def test_whose_account_has_to_wait_is_passed_over(emulator, other):
    emulator.faults.append(Fault(status=429, headers={"retry-after": "30"}))
    with Embedder(openai_at(emulator), fallback=[openai_at(other)]) as embedder:
        for _ in range(3):
            assert list(embedder.embed(TEXTS).answered_by) == [
                f"openai:text-embedding-3-small at {other.openai_base_url}"
            ]
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("face", FACES)
def test_a_canary_that_cannot_be_asked_lets_a_fallback_answer(face, emulator, other, tmp_path):
    emulator.faults.append(Fault(status=500, times=2))
    canary = Canary(tmp_path / "canary.json")
    with Embedder(openai_at(emulator), canary=canary, fallback=[openai_at(other)], max_attempts=1) as embedder:
        assert len(embed(embedder, face, TEXTS).answered_by) == 1
        assert [request.body["input"] for request in other.requests] == [TEXTS]
        embed(embedder, face, TEXTS)
    assert [request.body["input"] for request in emulator.requests] == [
        list(CANARY_TEXTS), TEXTS, list(CANARY_TEXTS), TEXTS,
    ]  # fmt: skip


def test_limits_that_are_given_count_for_more_than_the_catalogues(monkeypatch):
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-test-2")
    with Embedder("voyage:voyage-4", limits=Limits(requests_per_minute=6000)) as embedder:
        meter = embedder._engine.documents.main.gate._meter
        assert (meter.requests.limit, meter.tokens.limit) == (6000, 8_000_000)
