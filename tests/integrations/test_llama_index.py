"""LlamaIndex: searches find what they should, settings travel, keys do not, and its own machinery still works."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed here")

from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore

from mrlclient import (
    AuthenticationError,
    ConfigurationError,
    Embedder,
    InputError,
    MissingCredentialsError,
    OpenAI,
    RateLimitError,
)
from mrlclient.cache import MemoryCache
from mrlclient.integrations.llama_index import MRLEmbedding
from mrlclient.testing.emulator import Fault
from tests.secrets.scanning import KEY, TEXT, frames, heard

QUERIES = 20
OPENAI = "openai:text-embedding-3-small"


def texts_of(collection):
    """The beginnings of the documents, which no model finds too long."""
    return [text[:500] for text in collection.documents]


def nodes_of(collection):
    return [TextNode(id_=str(place), text=text) for place, text in enumerate(texts_of(collection))]


def ids(found):
    return [each.node.node_id for each in found]


def best(embedder, collection):
    """What a search has to find: the nearest documents by the embedder's own vectors."""
    documents = embedder.embed_documents(texts_of(collection))
    queries = np.stack([embedder.embed_query(query) for query in collection.queries[:QUERIES]])
    return [[str(place) for place in row[:5]] for row in np.argsort(-(queries @ documents.T), axis=1)]


def test_search(embedder, collection):
    index = VectorStoreIndex(nodes_of(collection), embed_model=MRLEmbedding(embedder))
    retriever = index.as_retriever(similarity_top_k=5)
    assert [ids(retriever.retrieve(query)) for query in collection.queries[:QUERIES]] == best(embedder, collection)


def test_asynchronous_search(embedder, collection):
    async def search():
        index = VectorStoreIndex([], embed_model=MRLEmbedding(embedder, embed_batch_size=64), use_async=True)
        await index.ainsert_nodes(nodes_of(collection))
        retriever = index.as_retriever(similarity_top_k=5)
        return await asyncio.gather(*(retriever.aretrieve(query) for query in collection.queries[:QUERIES]))

    assert [ids(each) for each in asyncio.run(search())] == best(embedder, collection)


def test_searches_find_the_right_document(collection):
    """With a real model: what the documents are about, not only what the vectors say."""
    index = VectorStoreIndex(nodes_of(collection), embed_model=MRLEmbedding())
    retriever = index.as_retriever(similarity_top_k=10)
    right = [
        str(document) in ids(retriever.retrieve(query))
        for query, document in zip(collection.queries, collection.relevant, strict=True)
    ]
    assert np.mean(right) > 0.5  # by chance it would be 0.05


def test_persisted_index(embedder, collection, tmp_path):
    model = MRLEmbedding(embedder)
    index = VectorStoreIndex(nodes_of(collection), embed_model=model)
    index.storage_context.persist(str(tmp_path))
    again = load_index_from_storage(
        StorageContext.from_defaults(persist_dir=str(tmp_path)), embed_model=MRLEmbedding.from_dict(model.to_dict())
    )
    query = collection.queries[0]
    before, after = (each.as_retriever(similarity_top_k=5).retrieve(query) for each in (index, again))
    assert ids(before) == ids(after)
    assert [each.score for each in before] == [each.score for each in after]


def test_vectors(embedder):
    """Every method gives the embedder's own vectors, as lists of floats."""
    model = MRLEmbedding(embedder)
    documents, query = embedder.embed_documents(["one", "two"]).tolist(), embedder.embed_query("one").tolist()
    assert model.get_text_embedding_batch(["one", "two"]) == documents
    assert model.get_text_embedding("two") == pytest.approx(documents[1], abs=1e-6)
    assert model.get_query_embedding("one") == query
    assert len(query) == 64
    assert {type(number) for number in query} == {float}
    assert model.get_text_embedding_batch([]) == []

    async def asynchronous():
        assert await model.aget_text_embedding_batch(["one", "two"]) == documents
        assert await model.aget_text_embedding("two") == pytest.approx(documents[1], abs=1e-6)
        assert await model.aget_query_embedding("one") == query
        assert await model.aget_text_embedding_batch([]) == []

    asyncio.run(asynchronous())


def test_roles(keys, emulator):
    voyage = {"model": "voyage:voyage-4", "api_key_env": "VOYAGE_API_KEY", "base_url": emulator.voyage_base_url}
    model = MRLEmbedding(voyage | {"dimensions": 256})
    model.get_query_embedding("one")
    model.get_text_embedding("one")
    model.get_text_embedding_batch(["one"])
    sent = [(request.body["input_type"], request.body["output_dimension"]) for request in emulator.requests]
    assert sent == [("query", 256), ("document", 256), ("document", 256)]


@pytest.mark.parametrize(
    "copied",
    [
        lambda model: MRLEmbedding.from_dict(model.to_dict()),
        lambda model: MRLEmbedding.from_dict(json.loads(json.dumps(model.to_dict()))),
        lambda model: MRLEmbedding.from_json(model.to_json()),
        lambda model: pickle.loads(pickle.dumps(model)),
        copy.copy,
        copy.deepcopy,
        lambda model: model.model_copy(),
    ],
)
def test_copies(copied, profile):
    model = MRLEmbedding(profile | {"dimensions": 64, "on_narrow": "allow"}, embed_batch_size=7, num_workers=3)
    other = copied(model)
    assert other.to_dict() == model.to_dict()
    assert other.to_payload() == model.to_payload()
    assert (other.embed_batch_size, other.num_workers, other.model_name) == (7, 3, profile["model"])
    assert other.get_query_embedding("one") == model.get_query_embedding("one")


def test_another_process(keys):
    """A pickle and a dictionary make the same vectors where nothing of this process is."""
    model = MRLEmbedding(OPENAI, dimensions=512)
    code = (
        "import json, pickle, sys\n"
        "from mrlclient.integrations.llama_index import MRLEmbedding\n"
        "given = json.loads(sys.stdin.read())\n"
        "both = pickle.loads(bytes.fromhex(given['pickle'])), MRLEmbedding.from_dict(given['values'])\n"
        "print(json.dumps([each.get_query_embedding('one') for each in both]))\n"
    )
    given = json.dumps({"pickle": pickle.dumps(model).hex(), "values": model.to_dict()})
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [model.get_query_embedding("one")] * 2


def test_the_default_model_is_written_down(monkeypatch):
    """The environment of another process may name another."""
    monkeypatch.setenv("MRLCLIENT_MODEL", "wordllama:l2-supercat-256")
    assert MRLEmbedding().to_dict()["model"] == {"model": "wordllama:l2-supercat-256"}


def test_nothing_tells_the_key(keys, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    model = MRLEmbedding({"model": OPENAI, "api_key_env": "MY_KEY"})
    assert model.to_dict()["model"]["api_key_env"] == "MY_KEY"
    for said in (repr(model), str(model), model.to_json(), str(model.model_dump()), model.model_dump_json()):
        assert not heard(said)
    assert not heard(str(model.to_payload()))
    assert not heard(pickle.dumps(model))


@pytest.mark.parametrize(
    "made",
    [
        lambda url: Embedder(OpenAI("text-embedding-3-small", api_key=KEY, base_url=url)),
        lambda url: Embedder(cache=MemoryCache()),
    ],
)
def test_what_cannot_be_written_down(made, emulator):
    """It works, and says so where it should travel: LlamaIndex would leave it out, and log that."""
    with made(emulator.openai_base_url) as embedder:
        model = MRLEmbedding(embedder)
        assert not heard(repr(model))
        for written in (model.to_dict, model.model_dump, model.to_json):
            with pytest.raises(ConfigurationError, match=r"Keep the key in|Give its address instead"):
                written()
        with pytest.raises((ConfigurationError, TypeError), match="pickled"):
            pickle.dumps(model)


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("embeddings_cache", SimpleKVStore(), "'cache': 'vectors.db'"),
        ("rate_limiter", TokenBucketRateLimiter(requests_per_minute=5), "limits=Limits"),
    ],
)
def test_refused_parts(name, value, instead):
    with pytest.raises(ConfigurationError, match=instead):
        MRLEmbedding(**{name: value})
    model = MRLEmbedding()
    with pytest.raises(ConfigurationError, match=instead):
        setattr(model, name, value)
    assert getattr(model, name) is None


def test_our_cache_in_its_place(keys, emulator):
    model = MRLEmbedding({"model": OPENAI, "cache": "memory:"})
    first = model.get_text_embedding_batch(["one", "two"])
    assert model.get_text_embedding_batch(["two", "one"]) == first[::-1]
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("options", [{"embed_batch_size": 2049}, {"num_workers": 1}, {"num_workers": None}])
def test_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MRLEmbedding(**options)


def test_dimensions_are_said_once():
    with pytest.raises(ConfigurationError, match="dimensions is given twice"):
        MRLEmbedding({"model": "wordllama:l2-supercat-256"}, dimensions=64)


def test_batches_are_as_large_as_the_provider_takes(keys, emulator):
    MRLEmbedding(OPENAI, dimensions=512).get_text_embedding_batch([f"text {number}" for number in range(3000)])
    assert [len(request.body["input"]) for request in emulator.requests] == [2048, 952]


def test_batches_under_way_are_bounded(keys, emulator):
    arrived = []
    emulator.faults.append(Fault(delay=0.1, times=8, when=lambda request: arrived.append(time.monotonic()) or True))
    model = MRLEmbedding(OPENAI, embed_batch_size=1, num_workers=2)
    asyncio.run(model.aget_text_embedding_batch([f"text {number}" for number in range(8)]))
    assert len(arrived) == 8
    # The third request begins when one of two has been answered.
    assert all(later - earlier >= 0.1 for every in (0, 1) for earlier, later in pairwise(arrived[every::2]))


class Heard(BaseEventHandler):
    events: list

    def handle(self, event, **kwargs):
        self.events.append(event)


def test_events_and_callbacks():
    debug, handler = LlamaDebugHandler(print_trace_on_end=False), Heard(events=[])
    model = MRLEmbedding(dimensions=64, embed_batch_size=2, callback_manager=CallbackManager([debug]))
    root = get_dispatcher()
    root.add_event_handler(handler)
    try:
        model.get_query_embedding("one")
        model.get_text_embedding_batch(["one", "two", "three"])
        asyncio.run(model.aget_text_embedding_batch(["one", "two", "three"]))
    finally:
        root.event_handlers.remove(handler)
    chunks = [event.chunks for event in handler.events if isinstance(event, EmbeddingEndEvent)]
    assert chunks == [["one"], *[["one", "two"], ["three"]] * 2]
    started = [event.model_dict for event in handler.events if isinstance(event, EmbeddingStartEvent)]
    assert started == [model.to_payload()] * 5
    assert model.to_payload() == {
        "class_name": "MRLEmbedding",
        "model_name": "wordllama:l2-supercat-256",
        "embed_batch_size": 2,
        "dimensions": 64,
    }
    pairs = debug.get_event_pairs(CBEventType.EMBEDDING)
    assert [end.payload[EventPayload.CHUNKS] for _, end in pairs] == chunks
    assert {len(row) for _, end in pairs for row in end.payload[EventPayload.EMBEDDINGS]} == {64}


CALLS = {
    "query": lambda model: model.get_query_embedding(TEXT),
    "text": lambda model: model.get_text_embedding(TEXT),
    "batch": lambda model: model.get_text_embedding_batch([TEXT, "two"]),
    "async query": lambda model: asyncio.run(model.aget_query_embedding(TEXT)),
    "async text": lambda model: asyncio.run(model.aget_text_embedding(TEXT)),
    "async batch": lambda model: asyncio.run(model.aget_text_embedding_batch([TEXT, "two"])),
    "index": lambda model: VectorStoreIndex([TextNode(text=TEXT)], embed_model=model),
    "search": lambda model: VectorStoreIndex([], embed_model=model).as_retriever().retrieve(TEXT),
    "pipeline": lambda model: IngestionPipeline(transformations=[model]).run(nodes=[TextNode(text=TEXT)]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_refused_key(call, bad_key, emulator):
    """Our error, after one request, and no text in the frames of ours."""
    with pytest.raises(AuthenticationError) as caught:
        call(MRLEmbedding(bad_key))
    assert caught.value.status == 401
    assert len(emulator.requests) == 1
    assert not any(map(heard, frames(caught.value)))


def test_nobody_else_tries_again(keys, emulator):
    emulator.faults.append(Fault(status=429, times=99))
    with Embedder(OPENAI, max_attempts=2) as embedder, pytest.raises(RateLimitError):
        MRLEmbedding(embedder).get_text_embedding_batch(["one"])
    assert len(emulator.requests) == 2


def test_a_text_that_cannot_be_embedded():
    with pytest.raises(InputError) as caught:
        MRLEmbedding().get_text_embedding_batch(["one", " "])
    assert caught.value.index == 1


def test_a_missing_key(keys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingCredentialsError, match="OPENAI_API_KEY"):
        MRLEmbedding(OPENAI)


def test_an_embedder_stays_open():
    with Embedder(dimensions=64) as embedder:
        model = MRLEmbedding(embedder)
        assert model.embedder is embedder
        del model
        assert embedder.embed_query("one").shape == (64,)


def test_ingestion(embedder, collection):
    """Its cache goes by `to_dict`, which tells models and widths apart."""
    cache = IngestionCache()
    native = MRLEmbedding(dict(embedder.to_dict()) | {"dimensions": 128, "on_narrow": "allow"})
    for model, width in ((MRLEmbedding(embedder), 64), (native, 128), (MRLEmbedding(embedder), 64)):
        done = IngestionPipeline(transformations=[model], cache=cache).run(nodes=nodes_of(collection)[:10])
        assert np.array([node.embedding for node in done]).shape == (10, width)
        assert np.array_equal(
            np.array([node.embedding for node in done], np.float32),
            model.embedder.embed_documents(texts_of(collection)[:10]),
        )


def test_asynchronous_ingestion(collection):
    model = MRLEmbedding(dimensions=64)
    done = asyncio.run(IngestionPipeline(transformations=[model]).arun(nodes=nodes_of(collection)[:10]))
    assert [node.embedding for node in done] == model.embedder.embed_documents(texts_of(collection)[:10]).tolist()
