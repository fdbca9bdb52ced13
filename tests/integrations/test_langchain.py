"""LangChain: its own tests for embeddings, and a search in its vector store."""

from __future__ import annotations

import pickle
from copy import deepcopy

import anyio
import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="langchain-core is not installed here")
pytest.importorskip("langchain_tests", reason="langchain-tests is not installed here")

from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from mrlclient import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DimensionsOutOfRangeError,
    Embedder,
    InputError,
    Voyage,
)
from mrlclient.integrations.langchain import MRLEmbeddings
from tests.integrations.refusing import refusing
from tests.integrations.searching import DEPTH, check_search
from tests.secrets.scanning import TEXT, check

TEXTS = ["Whales live in the sea.", "Bread needs flour."]


class _EachProvider:
    """What LangChain's tests are run on."""

    embeddings_class = MRLEmbeddings

    @pytest.fixture(autouse=True)
    def _take(self, profile):
        self._profile = profile

    @property
    def embedding_model_params(self):
        return {"model": self._profile}


class TestUnit(_EachProvider, EmbeddingsUnitTests):
    pass


@pytest.mark.anyio
class TestIntegration(_EachProvider, EmbeddingsIntegrationTests):
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request):
        return request.param


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_both_faces_give_the_embedders_vectors(embedder, backend):
    embeddings = MRLEmbeddings(embedder)
    rows, row = embedder.embed_documents(TEXTS), embedder.embed_query(TEXTS[0])
    for documents, query in (
        (embeddings.embed_documents(TEXTS), embeddings.embed_query(TEXTS[0])),
        (
            anyio.run(embeddings.aembed_documents, TEXTS, backend=backend),
            anyio.run(embeddings.aembed_query, TEXTS[0], backend=backend),
        ),
    ):
        assert {type(number) for number in (*documents[0], *query)} == {float}
        np.testing.assert_allclose(documents, rows, atol=1e-6)
        np.testing.assert_allclose(query, row, atol=1e-6)


def test_no_texts_make_no_request(emulator, keys):
    embeddings = MRLEmbeddings("openai:text-embedding-3-small")
    assert embeddings.embed_documents([]) == anyio.run(embeddings.aembed_documents, []) == []
    assert not emulator.requests
    embeddings.embedder.close()


def test_width_and_role_are_asked_for(emulator):
    voyage = Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)
    with Embedder(voyage, dimensions=512) as embedder:
        embeddings = MRLEmbeddings(embedder)
        embeddings.embed_documents(TEXTS)
        anyio.run(embeddings.aembed_query, TEXTS[0])
    bodies = [request.body for request in emulator.requests]
    assert [(body["input_type"], body["output_dimension"]) for body in bodies] == [("document", 512), ("query", 512)]


def test_an_address_and_a_width():
    embeddings = MRLEmbeddings("wordllama:l2-supercat-256", dimensions=64)
    assert len(embeddings.embed_query("flour")) == 64
    assert repr(embeddings) == "MRLEmbeddings(Embedder('wordllama:l2-supercat-256', dimensions=64))"
    with pytest.raises(ConfigurationError, match="twice"):
        MRLEmbeddings(embeddings.embedder, dimensions=64)
    # LangChain would get the widest of several, and the others be lost.
    with pytest.raises(DimensionsOutOfRangeError, match=r"dimensions=\[64, 128\]"):
        MRLEmbeddings("wordllama:l2-supercat-256", dimensions=[64, 128])


def test_async_runs_on_the_loop(emulator, keys, monkeypatch):
    """Not on LangChain's default, which is a thread."""
    embeddings = MRLEmbeddings("openai:text-embedding-3-small")
    monkeypatch.setattr("langchain_core.embeddings.embeddings.run_in_executor", None)

    async def main():
        rows = []

        async def one(text):
            rows.append(await embeddings.aembed_query(text))

        async with anyio.create_task_group() as group:
            for text in TEXTS:
                group.start_soon(one, text)
        await embeddings.embedder.aclose()
        return rows

    assert len(anyio.run(main)) == len(emulator.requests) == 2


def test_search(collection):
    with Embedder("wordllama:l2-supercat-256", dimensions=64) as embedder:
        store = InMemoryVectorStore.from_texts(collection.documents, MRLEmbeddings(embedder))
        check_search(lambda query: [d.page_content for d in store.similarity_search(query, k=DEPTH)], collection)


def test_search_async(collection):
    async def main():
        store = await InMemoryVectorStore.afrom_texts(collection.documents, MRLEmbeddings(embedder))
        queries = collection.queries
        return {query: await store.asimilarity_search(query, k=DEPTH) for query in queries}

    with Embedder("wordllama:l2-supercat-256", dimensions=64) as embedder:
        found = anyio.run(main)
    check_search(lambda query: [document.page_content for document in found[query]], collection)


def test_every_provider_finds_a_text_by_itself(embedder, collection):
    documents = collection.documents[:40]
    retriever = InMemoryVectorStore.from_texts(documents, MRLEmbeddings(embedder)).as_retriever(search_kwargs={"k": 1})
    for text in documents[::8]:
        assert retriever.invoke(text)[0].page_content == anyio.run(retriever.ainvoke, text)[0].page_content == text


def test_pickles_with_its_settings_and_without_a_key(emulator, keys):
    embeddings = MRLEmbeddings("openai:text-embedding-3-small", dimensions=512)
    packed = pickle.dumps(embeddings)
    assert emulator.openai_key.encode() not in packed
    other = pickle.loads(packed)
    assert other.embed_query("flour") == embeddings.embed_query("flour")
    assert deepcopy(embeddings).embedder is embeddings.embedder
    other.embedder.close()
    embeddings.embedder.close()


@pytest.mark.parametrize("call", ["embed_documents", "embed_query", "aembed_documents", "aembed_query"])
def test_a_refused_key(emulator, bad_key, call):
    embeddings = MRLEmbeddings(bad_key)
    method, argument = getattr(embeddings, call), TEXTS if call.endswith("documents") else TEXTS[0]
    with pytest.raises(AuthenticationError):
        anyio.run(method, argument) if call.startswith("a") else method(argument)
    assert len(emulator.requests) == 1
    embeddings.embedder.close()


def test_a_text_that_cannot_be_embedded():
    with pytest.raises(InputError, match="Text 1 is empty"):
        InMemoryVectorStore(MRLEmbeddings()).add_texts(["flour", " "])


@pytest.mark.parametrize("call", ["embed_documents", "embed_query", "aembed_documents", "aembed_query"])
def test_an_error_holds_neither_text_nor_key(emulator, call):
    with refusing(emulator) as embedder:
        embeddings = MRLEmbeddings(embedder)
        method, argument = getattr(embeddings, call), [TEXT] if call.endswith("documents") else TEXT
        with pytest.raises(BadRequestError) as caught:
            anyio.run(method, argument) if call.startswith("a") else method(argument)
        check(caught.value, embeddings)
