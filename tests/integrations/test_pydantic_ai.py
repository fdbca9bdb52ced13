"""Pydantic AI: its `Embedder` over ours, on both faces, with what a call cost."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import numpy as np
import pytest

pytest.importorskip("pydantic_ai", reason="pydantic-ai-slim is not installed here")

import pydantic_ai
from pydantic_ai.models import override_allow_model_requests
from tokenizers import Tokenizer

from mrlclient import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DimensionsError,
    Embedder,
    Nomic,
    OpenAI,
    Voyage,
)
from mrlclient.integrations.pydantic_ai import MRLEmbeddingModel
from mrlclient.testing.emulator import FAULTS
from tests.conftest import TINY_NOMIC
from tests.integrations.refusing import refusing
from tests.integrations.searching import DEPTH, check_search
from tests.secrets.scanning import TEXT, check

TEXTS = ["Whales live in the sea.", "Bread needs flour."]
LOCAL = "wordllama:l2-supercat-256"


@pytest.fixture(autouse=True)
def _loop():
    """The thread's event loop, which Pydantic AI's synchronous methods take and leave open."""
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        yield
    asyncio.set_event_loop(None)


@pytest.fixture(params=["sync", "async"])
def call(request):
    """A method of Pydantic AI's embedder, in either face."""

    def call(embedder, method, *arguments, **options):
        if request.param == "sync":
            return getattr(embedder, f"{method}_sync")(*arguments, **options)

        async def main():
            return await getattr(embedder, method)(*arguments, **options)

        with asyncio.Runner() as runner:
            return runner.run(main())

    return call


@pytest.fixture
def voyage(emulator):
    provider = Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)
    with Embedder(provider, dimensions=512) as embedder:
        yield embedder


def test_the_embedders_vectors(embedder, call):
    theirs = pydantic_ai.Embedder(MRLEmbeddingModel(embedder))
    result = call(theirs, "embed_documents", TEXTS)
    np.testing.assert_allclose(result.embeddings, embedder.embed_documents(TEXTS), atol=1e-6)
    assert {type(number) for number in result.embeddings[0]} == {float}
    np.testing.assert_allclose(result[TEXTS[1]], result[1])
    query = call(theirs, "embed_query", TEXTS[0])
    np.testing.assert_allclose(query.embeddings, [embedder.embed_query(TEXTS[0])], atol=1e-6)
    assert (query.inputs, query.input_type) == ([TEXTS[0]], "query")
    assert (query.provider_name, f"{query.provider_name}:{query.model_name}") == (
        embedder.spec.provider,
        embedder.model,
    )


def test_no_texts_make_no_request(emulator, voyage, call):
    assert call(pydantic_ai.Embedder(MRLEmbeddingModel(voyage)), "embed_documents", []).embeddings == []
    assert not emulator.requests


def test_width_and_role_are_asked_for(emulator, voyage, call):
    theirs = pydantic_ai.Embedder(MRLEmbeddingModel(voyage), settings={"dimensions": 1024})
    assert len(call(theirs, "embed_query", TEXTS[0])[0]) == 1024
    assert len(call(theirs, "embed_documents", TEXTS, settings={"dimensions": 256})[0]) == 256
    assert len(call(pydantic_ai.Embedder(MRLEmbeddingModel(voyage)), "embed_documents", TEXTS)[0]) == 512
    bodies = [request.body for request in emulator.requests]
    assert [body["output_dimension"] for body in bodies] == [1024, 256, 512]
    assert [body["input_type"] for body in bodies] == ["query", "document", "document"]


def test_settings_of_the_model(call):
    model = MRLEmbeddingModel(LOCAL, settings={"dimensions": 64})
    assert model.settings == {"dimensions": 64}
    assert len(call(pydantic_ai.Embedder(model), "embed_query", "flour")[0]) == 64
    model.embedder.close()


@pytest.mark.parametrize("width", [0, -1, 257, True, "64", [64, 128]])
def test_a_width_that_cannot_be_had(call, width):
    with pytest.raises(DimensionsError, match="dimensions="):
        MRLEmbeddingModel(LOCAL, settings={"dimensions": width})
    with pytest.raises(DimensionsError):
        call(pydantic_ai.Embedder(MRLEmbeddingModel(LOCAL)), "embed_query", "flour", settings={"dimensions": width})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"extra_headers": {}}, "extra_headers"),
        ({"extra_body": {}, "voyageai_input_type": "none"}, "extra_body, voyageai_input_type"),
        ({"truncate": True}, "truncate_input=True"),
    ],
)
def test_settings_that_cannot_be_honoured(emulator, voyage, call, settings, why):
    with pytest.raises(ConfigurationError, match=why):
        MRLEmbeddingModel(voyage, settings=settings)
    with pytest.raises(ConfigurationError, match=why):
        call(pydantic_ai.Embedder(MRLEmbeddingModel(voyage)), "embed_query", "flour", settings=settings)
    assert not emulator.requests


@pytest.mark.parametrize("truncate", [True, False])
def test_truncation_is_the_embedders(emulator, call, truncate):
    provider = Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)
    with Embedder(provider, truncate_input=truncate) as embedder:
        theirs = pydantic_ai.Embedder(MRLEmbeddingModel(embedder))
        call(theirs, "embed_query", "flour", settings={"truncate": truncate})
        with pytest.raises(ConfigurationError, match=f"truncate_input={not truncate}"):
            call(theirs, "embed_query", "flour", settings={"truncate": not truncate})
    assert [request.body["truncation"] for request in emulator.requests] == [truncate]


def test_tokens_and_price(emulator, call):
    provider = OpenAI("text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    with Embedder(provider, cache="memory:") as embedder:
        result = embedder.embed(["something else"], input_type="document")
        theirs = pydantic_ai.Embedder(MRLEmbeddingModel(embedder))
        fresh = call(theirs, "embed_documents", ["something else, as long"]).usage
        [known, again] = [call(theirs, "embed_documents", ["something else"]) for _ in range(2)]
    assert fresh.input_tokens == fresh.total_tokens > 0
    assert fresh.cost == Decimal(str(fresh.input_tokens * 0.02 / 1e6))
    assert fresh.details == {}
    assert (known.usage.input_tokens, known.usage.cost, known.usage.details) == (0, 0, {"cached_texts": 1})
    assert again.provider_details == {"answered_by": {}, "reduction": "native", "notes": []}
    [answered] = result.answered_by
    assert answered.startswith("openai:text-embedding-3-small at http://")


def test_who_answered(emulator, voyage, call):
    details = call(pydantic_ai.Embedder(MRLEmbeddingModel(voyage)), "embed_documents", TEXTS).provider_details
    assert details["reduction"] == "server"
    assert details["answered_by"] == {f"voyage:voyage-4 at {emulator.voyage_base_url}": 2}


def test_limits_and_tokens(voyage, call):
    with Embedder(Nomic(model_path=TINY_NOMIC)) as embedder:
        theirs = pydantic_ai.Embedder(MRLEmbeddingModel(embedder))
        assert call(theirs, "max_input_tokens") == embedder.spec.max_input_tokens == 2048
        tokenizer = Tokenizer.from_file(str(TINY_NOMIC / "tokenizer.json"))
        assert call(theirs, "count_tokens", TEXTS[0]) == len(tokenizer.encode(TEXTS[0]).ids) > 5
    theirs = pydantic_ai.Embedder(MRLEmbeddingModel(voyage))
    assert call(theirs, "max_input_tokens") == 32_000
    with pytest.raises(NotImplementedError, match="voyage:voyage-4"):
        call(theirs, "count_tokens", "flour")


def test_where_it_is(emulator, voyage):
    assert MRLEmbeddingModel(voyage).base_url == emulator.voyage_base_url
    assert MRLEmbeddingModel(LOCAL).base_url is None


def test_requests_can_be_forbidden(emulator, voyage, call):
    """As in Pydantic AI's own models: what is computed here is no request."""
    with override_allow_model_requests(False):
        with pytest.raises(RuntimeError, match="not allowed"):
            call(pydantic_ai.Embedder(MRLEmbeddingModel(voyage)), "embed_query", "flour")
        assert call(pydantic_ai.Embedder(MRLEmbeddingModel(LOCAL)), "embed_query", "flour").embeddings
    assert not emulator.requests


def test_search(collection, call):
    with Embedder(LOCAL, dimensions=64) as embedder:
        theirs = pydantic_ai.Embedder(MRLEmbeddingModel(embedder))
        documents = np.array(call(theirs, "embed_documents", collection.documents).embeddings)
        queries = call(theirs, "embed_query", collection.queries)
    check_search(
        lambda query: [collection.documents[i] for i in np.argsort(-(documents @ np.array(queries[query])))[:DEPTH]],
        collection,
    )


def test_a_refused_key(emulator, bad_key, call):
    model = MRLEmbeddingModel(bad_key)
    with pytest.raises(AuthenticationError):
        call(pydantic_ai.Embedder(model), "embed_query", "flour")
    assert len(emulator.requests) == 1
    model.embedder.close()


def test_pydantic_ai_does_not_ask_again(emulator, call):
    provider = Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)
    emulator.faults.append(FAULTS["unavailable_503"])
    with Embedder(provider, max_attempts=1) as embedder, pytest.raises(Exception, match="503"):
        call(pydantic_ai.Embedder(MRLEmbeddingModel(embedder)), "embed_query", "flour")
    assert len(emulator.requests) == 1


def test_an_error_holds_neither_text_nor_key(emulator, call):
    with refusing(emulator) as embedder:
        model = MRLEmbeddingModel(embedder)
        with pytest.raises(BadRequestError) as caught:
            call(pydantic_ai.Embedder(model), "embed_query", TEXT)
        check(caught.value, model)
        with pytest.raises(ConfigurationError) as caught:
            call(pydantic_ai.Embedder(model), "embed_query", TEXT, settings={"truncate": True})
        check(caught.value)
