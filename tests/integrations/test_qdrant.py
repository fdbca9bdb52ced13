"""Qdrant, its local mode: a collection is found again by the model that filled it, and by no other."""

from __future__ import annotations

import asyncio

import pytest

from mrlclient import ConfigurationError, Embedder
from tests.integrations.stores import WIDTH, check_refusals, check_search, filling, wider

pytest.importorskip("qdrant_client", reason="qdrant-client is not installed here")

from qdrant_client import AsyncQdrantClient, QdrantClient, models

from mrlclient.integrations.qdrant import IndexVectors, contract_in, metadata, vector_params


def insert(client, vectors, collection):
    for chunk in vectors.batches(collection.documents, batch_size=64):
        client.upload_collection(
            "docs",
            vectors=chunk.embeddings,
            ids=range(chunk.start, chunk.start + len(chunk.texts)),
            payload=[{"text": text} for text in chunk.texts],
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, collection):
    """A collection on disk."""
    folder = tmp_path_factory.mktemp("qdrant")
    client = QdrantClient(path=str(folder))
    with filling() as embedder:
        vectors = IndexVectors.new(embedder)
        client.create_collection("docs", vectors_config=vector_params(vectors), metadata=metadata(vectors))
        insert(client, vectors, collection)
    client.close()
    return folder


@pytest.fixture
def client(folder):
    client = QdrantClient(path=str(folder))
    yield client
    client.close()


@pytest.mark.parametrize("again", [filling, wider])
def test_what_was_written_is_found(again, client, collection):
    with again() as embedder:
        vectors = IndexVectors.open(embedder, contract_in(client.get_collection("docs")))

        def search(query):
            points = client.query_points("docs", query=vectors.query(query), limit=5).points
            assert all(collection.documents[point.id] == point.payload["text"] for point in points)
            return [point.id for point in points]

        check_search(collection, search)


def test_who_does_not_belong_is_refused(client, emulator):
    check_refusals(contract_in(client.get_collection("docs")), emulator)


def test_the_asynchronous_client(collection):
    async def work():
        client = AsyncQdrantClient(":memory:")
        async with wider() as embedder:
            vectors = await IndexVectors.anew(embedder, WIDTH)
            await client.create_collection("docs", vectors_config=vector_params(vectors), metadata=metadata(vectors))
            async for chunk in vectors.abatches(collection.documents):
                points = models.Batch(ids=list(range(len(chunk.texts))), vectors=chunk.embeddings.tolist())
                await client.upsert("docs", points)
            vectors = await IndexVectors.aopen(embedder, contract_in(await client.get_collection("docs")))
            query = await vectors.aquery(collection.documents[17])
            found = await client.query_points("docs", query=query.tolist(), limit=1)
        await client.close()
        return found.points[0].id

    assert asyncio.run(work()) == 17


def test_named_vectors_have_contracts_of_their_own():
    client = QdrantClient(":memory:")
    with Embedder(on_narrow="allow") as embedder:
        body, title = IndexVectors.new(embedder), IndexVectors.new(embedder, 64)
        client.create_collection(
            "docs",
            vectors_config={"body": vector_params(body), "title": vector_params(title), "other": vector_params(title)},
            metadata=metadata(body, vector_name="body") | metadata(title, vector_name="title"),
        )
    info = client.get_collection("docs")
    assert contract_in(info, vector_name="body") == body.contract
    assert contract_in(info, vector_name="title") == title.contract
    with pytest.raises(ConfigurationError, match=r"no vector ''. It has 'body', 'title', 'other'"):
        contract_in(info)
    with pytest.raises(ConfigurationError, match="has no contract"):
        contract_in(info, vector_name="other")
    client.update_collection("docs", metadata=metadata(body, vector_name="other"))
    with pytest.raises(ConfigurationError, match="64 wide, and the contract is of an index 256 wide"):
        contract_in(client.get_collection("docs"), vector_name="other")
    assert contract_in(client.get_collection("docs"), vector_name="title") == title.contract
    client.close()


def test_a_collection_without_vectors_or_with_a_damaged_contract():
    client = QdrantClient(":memory:")
    with filling() as embedder:
        vectors = IndexVectors.new(embedder)
    client.create_collection("none", vectors_config={})
    with pytest.raises(ConfigurationError, match="It has none"):
        contract_in(client.get_collection("none"))
    client.create_collection("docs", vectors_config=vector_params(vectors))
    with pytest.raises(ConfigurationError, match="has no contract"):
        contract_in(client.get_collection("docs"))
    client.update_collection("docs", metadata={"mrlclient_contract": 3})
    with pytest.raises(ConfigurationError, match="not the contract of an index"):
        contract_in(client.get_collection("docs"))
    client.close()
