"""Haystack: pipelines find what they should and load in another process, keys stay where they are, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest

pytest.importorskip("haystack", reason="haystack-ai is not installed here")

from haystack import Document, Pipeline
from haystack.components.embedders import OpenAIDocumentEmbedder
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.core.errors import PipelineRuntimeError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret

from haystack_integrations.components.embedders.mrlclient import MRLDocumentEmbedder, MRLTextEmbedder
from mrlclient import (
    AuthenticationError,
    ConfigurationError,
    DimensionsOutOfRangeError,
    Embedder,
    InputError,
    MissingCredentialsError,
    OpenAI,
    RateLimitError,
    ServerError,
    UnknownModelError,
)
from mrlclient.testing.emulator import Fault
from tests.secrets.scanning import KEY, TEXT, frames, heard

QUERIES = 10
OPENAI = "openai:text-embedding-3-small"
BOTH = (MRLTextEmbedder, MRLDocumentEmbedder)


def documents_of(collection):
    """The beginnings of the documents, which no model finds too long."""
    return [Document(id=str(place), content=text[:500]) for place, text in enumerate(collection.documents)]


def pipelines(model, store):
    """One that writes documents, and one that finds them."""
    indexing, search = Pipeline(), Pipeline()
    indexing.add_component("embedder", MRLDocumentEmbedder(model))
    indexing.add_component("writer", DocumentWriter(store))
    indexing.connect("embedder.documents", "writer.documents")
    search.add_component("embedder", MRLTextEmbedder(model))
    search.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=5))
    search.connect("embedder.embedding", "retriever.query_embedding")
    return indexing, search


def ids(found):
    return [document.id for document in found["retriever"]["documents"]]


def best(embedder, collection):
    """What a search has to find: the nearest documents by the embedder's own vectors."""
    documents = embedder.embed_documents(document.content for document in documents_of(collection))
    queries = np.stack([embedder.embed_query(query) for query in collection.queries[:QUERIES]])
    return [[str(place) for place in row[:5]] for row in np.argsort(-(queries @ documents.T), axis=1)]


def test_search(embedder, collection):
    indexing, search = pipelines(embedder, InMemoryDocumentStore(embedding_similarity_function="cosine"))
    indexing.run({"embedder": {"documents": documents_of(collection)}})
    found = [ids(search.run({"embedder": {"text": query}})) for query in collection.queries[:QUERIES]]
    assert found == best(embedder, collection)


def test_asynchronous_search(embedder, collection):
    async def run():
        indexing, search = pipelines(embedder, InMemoryDocumentStore(embedding_similarity_function="cosine"))
        await indexing.run_async({"embedder": {"documents": documents_of(collection)}})
        return [await search.run_async({"embedder": {"text": query}}) for query in collection.queries[:QUERIES]]

    assert [ids(found) for found in asyncio.run(run())] == best(embedder, collection)


def test_searches_find_the_right_document(collection):
    """With a real model: what the documents are about, not only what the vectors say."""
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    indexing, search = pipelines("wordllama:l2-supercat-256", store)
    indexing.run({"embedder": {"documents": documents_of(collection)}})
    right = [
        str(document) in ids(search.run({"embedder": {"text": query}}))
        for query, document in zip(collection.queries, collection.relevant, strict=True)
    ]
    assert np.mean(right) > 0.4  # by chance it would be 0.025


_OTHER_PROCESS = """
import json, sys
from haystack import Document, Pipeline
given = json.loads(sys.stdin.read())
indexing, search = map(Pipeline.loads, given["pipelines"])
embedded = indexing.run({"embedder": {"documents": [Document.from_dict(each) for each in given["documents"]]}})
print(json.dumps({
    "documents": [each.embedding for each in embedded["embedder"]["documents"]],
    "queries": [search.run({"embedder": {"text": text}})["embedder"]["embedding"] for text in given["queries"]],
}))
"""


def test_another_process(profile, collection):
    """Haystack loads only what its list allows: the components are on it, wherever this process got them from."""
    both = Pipeline(), Pipeline()
    values = profile | {"dimensions": 64, "on_narrow": "allow"}
    both[0].add_component("embedder", MRLDocumentEmbedder(values))
    both[1].add_component("embedder", MRLTextEmbedder(values))
    documents, queries = documents_of(collection)[:5], collection.queries[:3]
    given = {
        "pipelines": [pipeline.dumps() for pipeline in both],
        "documents": [document.to_dict() for document in documents],
        "queries": queries,
    }
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    here = both[0].run({"embedder": {"documents": documents}})["embedder"]["documents"]
    assert json.loads(done.stdout) == {
        "documents": [document.embedding for document in here],
        "queries": [both[1].run({"embedder": {"text": query}})["embedder"]["embedding"] for query in queries],
    }


def test_names():
    """A pipeline that was written by this process names what any other may load."""
    for made in BOTH:
        assert made.__module__ == "haystack_integrations.components.embedders.mrlclient"
        assert made().to_dict()["type"] == f"haystack_integrations.components.embedders.mrlclient.{made.__name__}"


@pytest.mark.parametrize("made", BOTH)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"model": OPENAI, "dimensions": 512, "prefix": "a", "suffix": "b"},
        {"model": OPENAI, "api_key": Secret.from_env_var(["FIRST", "SECOND"])},
        {"model": {"model": OPENAI, "api_key_env": "FIRST", "cache": "memory:"}},
    ],
)
def test_to_dict_and_back(made, arguments):
    """Without any key in the environment."""
    written = made(**arguments).to_dict()
    again = made.from_dict(json.loads(json.dumps(written)))
    assert again.to_dict() == written
    for name, value in arguments.items():
        assert getattr(again, name) == value


def test_the_settings_of_documents():
    written = MRLDocumentEmbedder(meta_fields_to_embed=["title"], embedding_separator=" / ").to_dict()
    again = MRLDocumentEmbedder.from_dict(written)
    assert (again.meta_fields_to_embed, again.embedding_separator) == (["title"], " / ")


def test_the_default_model_is_written_down(monkeypatch):
    """The environment of another process may name another."""
    monkeypatch.setenv("MRLCLIENT_MODEL", OPENAI)
    assert MRLTextEmbedder().to_dict()["init_parameters"]["model"] == OPENAI


def test_an_embedder_is_written_as_its_profile(keys):
    with Embedder(OPENAI, dimensions=512, max_attempts=2) as embedder:
        component = MRLTextEmbedder.from_dict(MRLTextEmbedder(embedder).to_dict())
    assert component.model == {"model": OPENAI, "dimensions": 512, "max_attempts": 2}
    assert len(component.run("one")["embedding"]) == 512


@pytest.mark.parametrize("made", BOTH)
def test_an_embedder_that_cannot_be_written_down(made, emulator):
    with Embedder(OpenAI("text-embedding-3-small", api_key=KEY, base_url=emulator.openai_base_url)) as embedder:
        with pytest.raises(ConfigurationError, match="Keep the key in") as caught:
            made(embedder).to_dict()
        assert not heard(str(caught.value))


@pytest.mark.parametrize("made", BOTH)
def test_the_variable_of_a_key(made, keys, emulator, monkeypatch):
    """The first one that is set, as it is with Haystack's own; only its name is written down."""
    monkeypatch.setenv("SECOND", emulator.openai_key)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    component = made(OPENAI, 512, api_key=Secret.from_env_var(["FIRST", "SECOND"]))
    given = "one" if made is MRLTextEmbedder else [Document(content="one")]
    assert component.run(given)["meta"]["dimensions"] == 512
    assert emulator.requests[0].bearer == emulator.openai_key
    pipeline = Pipeline()
    pipeline.add_component("embedder", component)
    assert "SECOND" in pipeline.dumps()
    assert emulator.openai_key not in pipeline.dumps() + repr(component) + repr(pipeline)


def test_a_variable_that_is_not_set():
    with pytest.raises(MissingCredentialsError, match="FIRST"):
        MRLTextEmbedder(OPENAI, api_key=Secret.from_env_var(["FIRST", "SECOND"])).warm_up()


def test_a_token(keys, emulator):
    component = MRLTextEmbedder(OPENAI, api_key=Secret.from_token(emulator.openai_key))
    assert len(component.run("one")["embedding"]) == 1536
    assert emulator.openai_key not in repr(component)
    with pytest.raises(ValueError, match="Cannot serialize token-based secret") as caught:
        component.to_dict()
    assert emulator.openai_key not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": {"model": OPENAI, "api_key_env": "FIRST"}, "api_key": Secret.from_env_var("SECOND")}, "given twice"),
        ({"model": {"model": OPENAI}, "dimensions": 512}, "dimensions is given twice"),
        ({"model": {"model": OPENAI}, "dimensions": 512, "api_key": Secret.from_env_var("A")}, "dimensions is given"),
        ({"model": {"model": OPENAI}, "api_key": Secret.from_token(KEY)}, "address only"),
        ({"model": "wordllama:l2-supercat-256", "api_key": Secret.from_token(KEY)}, "takes no key"),
        ({"model": "wordllama:l2-supercat-256", "api_key": Secret.from_env_var("A")}, "takes no key"),
        ({"model": OPENAI, "api_key": KEY}, "api_key takes a Secret, not str"),
        ({"model": 5}, "not int"),
    ],
)
def test_what_does_not_go_together(arguments, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        MRLTextEmbedder(**arguments).warm_up()
    assert not heard(str(caught.value))
    assert not any(map(heard, frames(caught.value)))


@pytest.mark.parametrize("made", BOTH)
def test_a_key_that_is_no_secret(made):
    """It would stand in every pipeline that is written down."""
    with pytest.raises(ConfigurationError, match=r"Secret\.from_env_var") as caught:
        made(OPENAI, api_key=KEY)
    assert not heard(str(caught.value))
    assert not any(map(heard, frames(caught.value)))


@pytest.mark.parametrize("made", BOTH)
@pytest.mark.parametrize("dimensions", [257, 0, "64", [64, 128]])
def test_a_width_that_cannot_be_had(made, dimensions):
    """Where the pipeline is made, not where it is first run."""
    with pytest.raises(DimensionsOutOfRangeError, match="dimensions="):
        made("wordllama:l2-supercat-256", dimensions)


def test_a_prefix_is_not_embedded_alone():
    with pytest.raises(InputError, match="empty or blank") as caught:
        MRLTextEmbedder(prefix="query: ").run(" ")
    assert caught.value.index == 0


def test_an_embedder_has_its_key():
    with Embedder() as embedder, pytest.raises(ConfigurationError, match="api_key is given twice"):
        MRLTextEmbedder(embedder, api_key=Secret.from_env_var("A")).warm_up()


@pytest.mark.parametrize("made", BOTH)
def test_an_unknown_model(made):
    with pytest.raises(UnknownModelError, match="text-embedding-3-small"):
        made("openai:text-embedding-3-smal")


def test_a_missing_key_is_said_before_anything_runs(keys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    _, search = pipelines(OPENAI, InMemoryDocumentStore())
    with pytest.raises(MissingCredentialsError, match="OPENAI_API_KEY"):
        search.run({"embedder": {"text": "one"}})
    with pytest.raises(MissingCredentialsError, match="OPENAI_API_KEY"):
        asyncio.run(search.run_async({"embedder": {"text": "one"}}))


def test_answers(embedder):
    text, documents = MRLTextEmbedder(embedder), MRLDocumentEmbedder(embedder)
    given = [Document(content="one"), Document(content="two", meta={"year": 1})]
    rows = embedder.embed_documents(["one", "two"]).tolist()
    found, query = documents.run(given), text.run("one")
    assert [document.embedding for document in found["documents"]] == rows
    assert query["embedding"] == embedder.embed_query("one").tolist()
    assert {type(number) for number in query["embedding"]} == {float}
    result = embedder.embed(["one", "two"], input_type="document")
    assert found["meta"]["model"] == query["meta"]["model"] == embedder.model
    assert found["meta"]["dimensions"] == len(query["embedding"]) == 64
    assert found["meta"]["usage"]["total_tokens"] == result.usage.tokens
    assert found["meta"]["usage"]["usd"] == result.usage.usd

    async def asynchronous():
        assert await documents.run_async(given) == found
        assert await text.run_async("one") == query

    asyncio.run(asynchronous())


def test_documents_stay_as_they_are():
    given = [Document(content="one", meta={"a": [1]}), Document(content="two")]
    before = deepcopy(given)
    found = MRLDocumentEmbedder().run(given)["documents"]
    assert given == before
    assert [(each.id, each.content, each.meta) for each in found] == [
        (each.id, each.content, each.meta) for each in before
    ]


def test_documents_of_one_id():
    """By position: each gets the vector of its own text."""
    given = [Document(id="same", content="one"), Document(id="same", content="two")]
    found = MRLDocumentEmbedder().run(given)["documents"]
    with Embedder() as embedder:
        assert [each.embedding for each in found] == embedder.embed_documents(["one", "two"]).tolist()


def test_no_documents(keys, emulator):
    component = MRLDocumentEmbedder(OPENAI)
    assert component.run([])["documents"] == []
    assert asyncio.run(component.run_async([]))["documents"] == []
    assert emulator.requests == []


SETTINGS = {
    "prefix": "before ",
    "suffix": " after",
    "meta_fields_to_embed": ["title", "year"],
    "embedding_separator": "|",
}


@pytest.mark.parametrize("settings", [{}, SETTINGS, {"meta_fields_to_embed": ["title"]}])
def test_texts_are_those_of_haystacks_own(settings, keys, emulator):
    given = [
        Document(content="one", meta={"title": "T", "year": 1999, "other": "x"}),
        Document(content="two", meta={"title": None}),
        Document(content=None, meta={"title": "only a title"}),
    ][: 3 if "meta_fields_to_embed" in settings else 2]
    MRLDocumentEmbedder(OPENAI, **settings).run(given)
    theirs = OpenAIDocumentEmbedder(**settings)._prepare_texts_to_embed(given)
    assert emulator.requests[0].body["input"] == list(theirs.values())


def test_affixes_of_a_query(keys, emulator):
    MRLTextEmbedder(OPENAI, prefix="before ", suffix=" after").run("one")
    assert emulator.requests[0].body["input"] == ["before one after"]


@pytest.mark.parametrize("settings", [{}, {"prefix": "passage: "}, {"meta_fields_to_embed": ["title"]}])
def test_a_document_without_a_text(settings, keys, emulator):
    """A prefix alone is no text: its vector would say nothing of the document."""
    given = [Document(content=TEXT), Document(content=None, meta={"title": " "})]
    with pytest.raises(InputError, match="Document 1 has nothing to embed") as caught:
        MRLDocumentEmbedder(OPENAI, **settings).run(given)
    assert caught.value.index == 1
    assert not any(map(heard, frames(caught.value)))
    assert emulator.requests == []


def test_other_inputs():
    with pytest.raises(InputError, match="MRLDocumentEmbedder"):
        MRLTextEmbedder().run([Document(content="one")])
    for wrong in ("one", ["one"], [Document(content="one"), "two"]):
        with pytest.raises(InputError, match="MRLTextEmbedder"):
            MRLDocumentEmbedder().run(wrong)


def test_roles(keys, emulator):
    voyage = {"model": "voyage:voyage-4", "api_key_env": "VOYAGE_API_KEY", "base_url": emulator.voyage_base_url}
    MRLTextEmbedder(voyage | {"dimensions": 256}).run("one")
    MRLDocumentEmbedder(voyage | {"dimensions": 256}).run([Document(content="one")])
    sent = [(request.body["input_type"], request.body["output_dimension"]) for request in emulator.requests]
    assert sent == [("query", 256), ("document", 256)]


RUNS = {
    "text": lambda model: MRLTextEmbedder(model).run(TEXT),
    "documents": lambda model: MRLDocumentEmbedder(model).run([Document(content=TEXT)]),
    "async text": lambda model: asyncio.run(MRLTextEmbedder(model).run_async(TEXT)),
    "async documents": lambda model: asyncio.run(MRLDocumentEmbedder(model).run_async([Document(content=TEXT)])),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_refused_key(run, bad_key, emulator):
    """Our error, after one request, and no text in the frames of ours."""
    with pytest.raises(AuthenticationError) as caught:
        run(bad_key)
    assert caught.value.status == 401
    assert len(emulator.requests) == 1
    assert not any(map(heard, frames(caught.value)))


def test_a_refused_key_in_a_pipeline(bad_key):
    """A pipeline raises its own error, from ours and with its message."""
    indexing, search = pipelines(bad_key, InMemoryDocumentStore())
    runs = (
        lambda: search.run({"embedder": {"text": "one"}}),
        lambda: asyncio.run(search.run_async({"embedder": {"text": "one"}})),
        lambda: indexing.run({"embedder": {"documents": [Document(content="one")]}}),
    )
    for run in runs:
        with pytest.raises(PipelineRuntimeError, match="openai answered 401") as caught:
            run()
        assert isinstance(caught.value.__cause__, AuthenticationError)
        assert caught.value.component_name == "embedder"


def test_no_document_is_left_without_a_vector(keys, emulator):
    """Haystack's own go on and leave None; nothing is written here."""
    store = InMemoryDocumentStore()
    emulator.faults.append(Fault(status=500, times=99, when=lambda request: "bad" in request.body["input"]))
    with Embedder(OPENAI, max_attempts=1) as embedder:
        indexing, _ = pipelines(embedder, store)
        with pytest.raises(PipelineRuntimeError) as caught:
            indexing.run({"embedder": {"documents": [Document(content="good"), Document(content="bad")]}})
    assert isinstance(caught.value.__cause__, ServerError)
    assert store.count_documents() == 0


def test_nobody_else_tries_again(keys, emulator):
    emulator.faults.append(Fault(status=429, times=99))
    with Embedder(OPENAI, max_attempts=2) as embedder, pytest.raises(RateLimitError):
        MRLDocumentEmbedder(embedder).run([Document(content="one")])
    assert len(emulator.requests) == 2


@pytest.mark.parametrize("closed", [lambda p: p.close(), lambda p: asyncio.run(p.close_async())])
def test_closing(closed, keys, emulator):
    """What was made here is closed, and made anew for another run; what was given stays open."""
    _, search = pipelines(OPENAI, InMemoryDocumentStore())
    for _ in range(2):
        search.run({"embedder": {"text": "one"}})
        closed(search)
        closed(search)
    assert len({request.connection for request in emulator.requests}) == 2
    with Embedder(OPENAI) as embedder:
        _, search = pipelines(embedder, InMemoryDocumentStore())
        search.run({"embedder": {"text": "one"}})
        closed(search)
        assert embedder.embed_query("one").shape == (1536,)
