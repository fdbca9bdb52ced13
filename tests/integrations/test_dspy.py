"""DSPy: its embedder and its retriever over ours."""

from __future__ import annotations

import pickle

import anyio
import numpy as np
import pytest

pytest.importorskip("dspy", reason="dspy is not installed here")

import dspy

from mrlclient import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    Embedder,
    InputError,
    ProviderError,
    Voyage,
)
from mrlclient.integrations.dspy import MRLEmbedder
from mrlclient.testing.emulator import FAULTS
from tests.integrations.refusing import refusing
from tests.integrations.searching import DEPTH, check_search
from tests.secrets.scanning import TEXT, check

TEXTS = ["Whales live in the sea.", "Bread needs flour."]
LOCAL = "wordllama:l2-supercat-256"


@pytest.fixture(params=["sync", "asyncio", "trio"])
def call(request):
    """A call of a DSPy embedder, in either face."""

    def call(embedder, inputs, **options):
        if request.param == "sync":
            return embedder(inputs, **options)

        async def main():
            return await embedder.acall(inputs, **options)

        return anyio.run(main, backend=request.param)

    return call


@pytest.fixture
def voyage(emulator):
    provider = Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)
    with Embedder(provider, dimensions=512, max_attempts=1) as embedder:
        yield embedder


@pytest.fixture
def retriever():
    """Makes DSPy's retriever, and stops its thread at the end."""
    made = []

    def make(*arguments, **options):
        made.append(dspy.retrievers.Embeddings(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.search_fn.close()


def test_the_embedders_vectors(embedder, call):
    theirs = MRLEmbedder(embedder)
    assert isinstance(theirs, dspy.Embedder)
    rows = embedder.embed(TEXTS).embeddings
    many, one = call(theirs, TEXTS), call(theirs, TEXTS[0])
    assert (many.dtype, many.shape, one.dtype, one.shape) == (np.float32, (2, 64), np.float32, (64,))
    np.testing.assert_allclose(many, rows, atol=1e-6)
    np.testing.assert_allclose(one, rows[0], atol=1e-6)


def test_no_texts_make_no_request(emulator, voyage, call):
    assert call(MRLEmbedder(voyage), []).shape == (0, 512)
    assert not emulator.requests


def test_width_and_role_are_asked_for(emulator, voyage, call):
    for role in (None, "document", "query"):
        call(MRLEmbedder(voyage, input_type=role), TEXTS)
    bodies = [request.body for request in emulator.requests]
    assert [(body.get("input_type"), body["output_dimension"]) for body in bodies] == [
        (None, 512),
        ("document", 512),
        ("query", 512),
    ]


def test_an_address_and_a_width(call):
    theirs = MRLEmbedder(LOCAL, dimensions=64)
    assert call(theirs, "flour").shape == (64,)
    assert repr(theirs) == f"MRLEmbedder(Embedder('{LOCAL}', dimensions=64), input_type=None)"
    with pytest.raises(ConfigurationError, match="'query', 'document' or None"):
        MRLEmbedder(LOCAL, input_type="passage")
    theirs.embedder.close()


def test_all_texts_in_one_request(emulator, voyage, call):
    """DSPy itself would make two of them, and wait for one before it sends the other."""
    assert call(MRLEmbedder(voyage), [f"text {number}" for number in range(300)]).shape == (300, 512)
    assert len(emulator.requests) == 1


def test_two_models_never_share(call):
    """DSPy's cache would give the second what the first has got: its key is the callable's name."""
    with Embedder(LOCAL, dimensions=64) as narrow, Embedder(LOCAL, dimensions=128) as wide:
        assert [call(MRLEmbedder(each), "flour").shape for each in (narrow, wide)] == [(64,), (128,)]
        assert not MRLEmbedder(wide).caching


@pytest.mark.parametrize(
    ("options", "why"),
    [({"caching": True}, "cache='vectors.db'"), ({"batch_size": 8}, "batch_size"), ({"api_key": "k"}, "api_key")],
    ids=str,
)
def test_options_that_cannot_be_honoured(emulator, voyage, call, options, why):
    with pytest.raises(ConfigurationError, match=why):
        call(MRLEmbedder(voyage), "flour", **options)
    assert not emulator.requests


def test_caching_may_be_said_to_be_off(call):
    with Embedder(LOCAL) as embedder:
        assert call(MRLEmbedder(embedder), "flour", caching=False).shape == (256,)


def test_async_does_not_hold_up_the_loop(emulator, voyage):
    """With a callable, DSPy's own `acall` would block here: both calls are under way at once."""
    order = []

    async def one(text):
        order.append(f"begin {text}")
        await MRLEmbedder(voyage).acall(text)
        order.append(f"end {text}")

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(one, "flour")
            group.start_soon(one, "water")
        await voyage.aclose()

    anyio.run(main)
    assert [line.split()[0] for line in order] == ["begin", "begin", "end", "end"]


def test_the_retriever(collection, retriever):
    with Embedder(LOCAL, dimensions=64) as embedder:
        search = retriever(collection.documents, MRLEmbedder(embedder, input_type="document"), k=DEPTH)
        search.embedder = MRLEmbedder(embedder, input_type="query")
        queries = search._batch_forward(collection.queries)
        found = dict(zip(collection.queries, (passages for passages, _, _ in queries), strict=True))
        check_search(found.__getitem__, collection)
        # One by one it goes through a thread of its own.
        for query in collection.queries[:5]:
            assert search(query).passages == found[query]


def test_the_retriever_over_every_provider(embedder, collection, retriever):
    documents = collection.documents[:40]
    search = retriever(documents, MRLEmbedder(embedder), k=1)
    for text in documents[::8]:
        assert search(text).passages == [text]


def test_a_saved_index_takes_the_queries_embedder(collection, retriever, tmp_path):
    documents = collection.documents[:40]
    with Embedder(LOCAL, dimensions=64) as embedder:
        retriever(documents, MRLEmbedder(embedder, input_type="document"), k=1).save(str(tmp_path))
        search = dspy.retrievers.Embeddings.from_saved(str(tmp_path), MRLEmbedder(embedder, input_type="query"))
        assert search(documents[8]).passages == [documents[8]]
        search.search_fn.close()


def test_knn_takes_it():
    examples = [dspy.Example(question=text).with_inputs("question") for text in TEXTS]
    with Embedder(LOCAL) as embedder:
        nearest = dspy.KNN(k=1, trainset=examples, vectorizer=MRLEmbedder(embedder))
        assert nearest(question="whales in the sea") == [examples[0]]


def test_pickles_without_a_key(emulator, keys):
    theirs = MRLEmbedder("openai:text-embedding-3-small", dimensions=512, input_type="query")
    packed = pickle.dumps(theirs)
    assert emulator.openai_key.encode() not in packed
    other = pickle.loads(packed)
    np.testing.assert_allclose(other("flour"), theirs("flour"), atol=1e-6)
    assert repr(other) == repr(theirs)
    other.embedder.close()
    theirs.embedder.close()


def test_a_refused_key(emulator, bad_key, call):
    theirs = MRLEmbedder(bad_key)
    with pytest.raises(AuthenticationError):
        call(theirs, TEXTS)
    assert len(emulator.requests) == 1
    theirs.embedder.close()


def test_a_refused_key_in_the_retriever(bad_key, retriever):
    theirs = MRLEmbedder(bad_key)
    with pytest.raises(AuthenticationError):
        retriever(TEXTS, theirs)
    with Embedder(LOCAL, dimensions=64) as embedder:
        search = retriever(TEXTS, MRLEmbedder(embedder))
        search.embedder = theirs
        with pytest.raises(AuthenticationError):
            search("flour")
    theirs.embedder.close()


def test_dspy_does_not_ask_again(emulator, voyage, call):
    emulator.faults.append(FAULTS["unavailable_503"])
    with pytest.raises(ProviderError, match="503"):
        call(MRLEmbedder(voyage), "flour")
    assert len(emulator.requests) == 1


def test_a_text_that_cannot_be_embedded(call):
    with Embedder(LOCAL) as embedder, pytest.raises(InputError, match="Text 1 is empty"):
        call(MRLEmbedder(embedder), ["flour", " "])


def test_an_error_holds_neither_text_nor_key(emulator, call):
    with refusing(emulator) as embedder:
        theirs = MRLEmbedder(embedder)
        for inputs in (TEXT, [TEXT]):
            with pytest.raises(BadRequestError) as caught:
                call(theirs, inputs)
            check(caught.value, theirs)
