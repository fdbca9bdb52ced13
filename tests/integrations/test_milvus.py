"""Milvus Lite: a collection is found again by the model that filled it, and by no other."""

from __future__ import annotations

import pytest

from mrlclient import ConfigurationError, Embedder, InputError
from mrlclient.integrations.milvus import METRIC, IndexVectors, contract_in, properties
from tests.integrations.stores import WIDTH, check_refusals, check_search, filling, wider

pytest.importorskip("pymilvus", reason="pymilvus is not installed here")
pytest.importorskip("milvus_lite", reason="milvus-lite is not installed here")

from pymilvus import DataType, MilvusClient

# pymilvus asks platformdirs for a folder that a machine without a session does not have.
pytestmark = pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR is not set")


def insert(client, vectors, collection):
    for chunk in vectors.batches(collection.documents, batch_size=64):
        rows = enumerate(zip(chunk.texts, chunk.embeddings, strict=True), chunk.start)
        client.insert("docs", [{"id": key, "vector": vector, "text": text} for key, (text, vector) in rows])


@pytest.fixture(scope="module")
def path(tmp_path_factory, collection):
    """A collection on disk."""
    path = str(tmp_path_factory.mktemp("milvus") / "milvus.db")
    client = MilvusClient(path)
    with filling() as embedder:
        vectors = IndexVectors.new(embedder)
        client.create_collection(
            "docs", dimension=vectors.dimensions, metric_type=METRIC, properties=properties(vectors)
        )
        insert(client, vectors, collection)
    client.close()
    return path


@pytest.fixture
def client(path):
    client = MilvusClient(path)
    yield client
    client.close()


@pytest.mark.parametrize("again", [filling, wider])
def test_what_was_written_is_found(again, client, collection):
    with again() as embedder:
        vectors = IndexVectors.open(embedder, contract_in(client.describe_collection("docs")))

        def search(query):
            [hits] = client.search("docs", [vectors.query(query)], limit=5, output_fields=["text"])
            assert all(collection.documents[hit["id"]] == hit["entity"]["text"] for hit in hits)
            return [hit["id"] for hit in hits]

        check_search(collection, search)


def test_who_does_not_belong_is_refused(client, emulator):
    check_refusals(contract_in(client.describe_collection("docs")), emulator)


def test_nan_does_not_get_in(collection):
    """Milvus Lite takes it without an error."""
    with wider() as embedder:
        vectors = IndexVectors.new(embedder, WIDTH)
        rows = embedder.embed_documents(collection.documents)
        rows[7, 3] = float("nan")
        with pytest.raises(InputError, match="Row 7 is not finite"):
            vectors.fit(rows)


def test_fields_have_contracts_of_their_own(client):
    with Embedder(on_narrow="allow") as embedder:
        body, title = IndexVectors.new(embedder), IndexVectors.new(embedder, 64)
    schema = client.create_schema(auto_id=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("body", DataType.FLOAT_VECTOR, dim=body.dimensions)
    schema.add_field("title", DataType.FLOAT_VECTOR, dim=title.dimensions)
    both = properties(body, field="body") | properties(title, field="title")
    client.create_collection("two", schema=schema, properties=both)
    description = client.describe_collection("two")
    assert contract_in(description, field="body") == body.contract
    assert contract_in(description, field="title") == title.contract
    with pytest.raises(ConfigurationError, match=r"no vector field 'vector'. It has 'body', 'title'"):
        contract_in(description)
    client.alter_collection_properties("two", properties(body, field="title"))
    with pytest.raises(ConfigurationError, match="64 wide, and the contract is of an index 256 wide"):
        contract_in(client.describe_collection("two"), field="title")
    client.drop_collection("two")


def test_a_collection_without_a_contract_is_refused(client):
    client.create_collection("bare", dimension=WIDTH, metric_type=METRIC)
    with pytest.raises(ConfigurationError, match="'bare' has no contract"):
        contract_in(client.describe_collection("bare"))
    client.drop_collection("bare")
