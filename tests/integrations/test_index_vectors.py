"""What goes into every vector store, and what does not."""

from __future__ import annotations

import asyncio
import importlib
import sys

import numpy as np
import pytest

from mrlclient import (
    ConfigurationError,
    DimensionsOutOfRangeError,
    Embedder,
    IncompatibleSpaceError,
    InputError,
    MissingExtraError,
    NarrowDimensionsWarning,
    NotMatryoshkaError,
    OpenAI,
    Voyage,
    truncate_dimensions,
)
from mrlclient.integrations._index_vectors import IndexVectors
from tests.integrations.stores import WIDTH, filling, other_model, wider


@pytest.fixture(scope="module")
def vectors():
    with wider() as embedder:
        yield IndexVectors.new(embedder, WIDTH)


def test_batches_are_of_the_width_of_the_index(vectors, collection):
    with filling() as embedder:
        expected = embedder.embed_documents(collection.documents)
    chunks = list(vectors.batches(iter(collection.documents), batch_size=64))
    assert [chunk.start for chunk in chunks] == [0, 64, 128, 192]
    rows = np.concatenate([chunk.embeddings for chunk in chunks])
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    for chunk in chunks:
        assert chunk.embeddings.dtype == np.float32
        assert chunk.embeddings.flags.c_contiguous


def test_a_query_is_of_the_width_of_the_index(vectors):
    with filling() as embedder:
        narrow = IndexVectors.open(embedder, vectors.contract)
        expected = embedder.embed_query("a whale")
        np.testing.assert_array_equal(narrow.query("a whale"), expected)
    got = vectors.query("a whale")
    assert (got.shape, got.dtype, got.flags.c_contiguous) == ((WIDTH,), np.float32, True)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_the_same_under_an_event_loop(vectors, collection, emulator):
    async def work():
        async with wider() as embedder, filling() as narrow, other_model(emulator) as other:
            new = await IndexVectors.anew(embedder, WIDTH)
            assert new.contract == vectors.contract
            opened = await IndexVectors.aopen(narrow, new.contract)
            rows = [chunk.embeddings async for chunk in new.abatches(collection.documents[:100], batch_size=64)]
            with pytest.raises(IncompatibleSpaceError):
                await IndexVectors.aopen(other, new.contract)
            return np.concatenate(rows), await new.aquery("a whale"), await opened.aquery("a whale")

    rows, query, narrow_query = asyncio.run(work())
    np.testing.assert_allclose(rows, next(vectors.batches(collection.documents[:100])).embeddings, atol=1e-6)
    np.testing.assert_array_equal(query, vectors.query("a whale"))
    np.testing.assert_allclose(query, narrow_query, atol=1e-6)


def test_an_index_narrower_than_the_authors_evaluated_warns():
    with Embedder() as embedder, pytest.warns(NarrowDimensionsWarning):
        IndexVectors.new(embedder, 32)


def test_roles_are_kept(emulator):
    provider = Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)
    with Embedder(provider) as embedder:
        vectors = IndexVectors.new(embedder, 256)
        vectors.query("a")
        list(vectors.batches(["b"]))
    assert [request.body["input_type"] for request in emulator.requests] == ["document", "query", "document"]


# --- vectors that are there already


def test_wider_vectors_are_cut_and_made_unit_length_again(vectors, collection):
    with Embedder() as embedder:
        whole = embedder.embed(collection.documents)
    expected = truncate_dimensions(whole.embeddings, WIDTH)
    for given in (whole, whole.embeddings, whole.embeddings.astype(np.float64), np.asfortranarray(whole.embeddings)):
        fitted = vectors.fit(given)
        np.testing.assert_allclose(fitted, expected, atol=1e-6)
        assert fitted.dtype == np.float32
        assert fitted.flags.c_contiguous
    np.testing.assert_allclose(vectors.fit(expected), expected, atol=1e-6)
    np.testing.assert_allclose(vectors.fit(3 * whole.embeddings[:, :WIDTH]), expected, atol=1e-6)
    assert vectors.fit(np.empty((0, 256), np.float32)).shape == (0, WIDTH)


@pytest.mark.parametrize(
    ("value", "problem"), [(np.nan, "not finite"), (np.inf, "not finite"), (1e39, "not finite"), (0.0, "all zero")]
)
def test_a_row_that_nothing_is_found_by_is_refused(vectors, value, problem):
    rows = np.eye(5, WIDTH)
    rows[3] = value
    with pytest.raises(InputError, match=f"Row 3 is {problem}") as caught:
        vectors.fit(rows)
    assert caught.value.index == 3


@pytest.mark.parametrize(
    "rows", [np.ones(WIDTH), np.ones((2, WIDTH), int), [["a"] * WIDTH], np.ones((1, 2, WIDTH)), np.array(1.0)]
)
def test_what_is_no_matrix_of_floats_is_refused(vectors, rows):
    with pytest.raises(InputError, match="matrix of floats"):
        vectors.fit(rows)


def test_vectors_of_a_width_that_cannot_be_cut_are_refused(vectors, emulator):
    with pytest.raises(DimensionsOutOfRangeError, match="64 wide, and the index takes 128"):
        vectors.fit(np.eye(2, 64))
    with pytest.raises(DimensionsOutOfRangeError, match="wider than the model"):
        vectors.fit(np.eye(2, 512))
    provider = OpenAI("text-embedding-ada-002", api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    with Embedder(provider) as embedder:
        whole = IndexVectors.new(embedder)
        with pytest.raises(NotMatryoshkaError):
            whole.fit(np.eye(2, 256))
        assert whole.fit(np.eye(2, 1536)).shape == (2, 1536)


# --- where a store is not installed


@pytest.mark.parametrize(
    ("store", "package"),
    [("faiss", "faiss"), ("usearch", "usearch"), ("qdrant", "qdrant_client"), ("pgvector", "psycopg")],
)
def test_a_store_that_is_missing_is_said(store, package, monkeypatch):
    for name in (f"mrlclient.integrations.{store}", f"{package}.index", f"{package}.sql"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingExtraError, match=rf"'{package}[.a-z]*' is not installed.*pip install 'mrlclient\[{store}\]'"
    ):
        importlib.import_module(f"mrlclient.integrations.{store}")


def test_milvus_is_not_needed_to_say_what_it_takes(monkeypatch):
    monkeypatch.delitem(sys.modules, "mrlclient.integrations.milvus", raising=False)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    assert importlib.import_module("mrlclient.integrations.milvus").METRIC == "IP"


def test_they_are_an_embedders():
    with pytest.raises(ConfigurationError, match="IndexVectors takes an Embedder, not str"):
        IndexVectors.new("wordllama:l2-supercat-256")
    with pytest.raises(ConfigurationError, match="IndexVectors takes an Embedder, not str"):
        asyncio.run(IndexVectors.anew("wordllama:l2-supercat-256"))
