"""Chroma: a collection on disk keeps who embeds for it, and refuses anybody else."""

from __future__ import annotations

import asyncio
import importlib
import json
import pickle
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("chromadb", reason="chromadb is not installed here")

import chromadb

from mrlclient import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    Embedder,
    IncompatibleSpaceError,
    InputError,
    MissingExtraError,
    OpenAI,
)
from mrlclient.integrations import chroma
from mrlclient.integrations.chroma import MRLEmbeddingFunction, aopen_collection, open_collection
from mrlclient.testing.emulator import Fault
from tests.integrations.nearest import check_found, shortened

SMALL = "openai:text-embedding-3-small"
LARGE = "openai:text-embedding-3-large"

#: Another process, which gives Chroma no function.
_READER = """
import json, sys
import chromadb
import mrlclient.integrations.chroma

collection = chromadb.PersistentClient(sys.argv[1]).get_collection("docs")
found = collection.query(query_texts=json.load(sys.stdin), n_results=10)
print(json.dumps(found["ids"]))
"""


def _client(folder):
    return chromadb.PersistentClient(str(folder))


def _fill(client, function, collection):
    made = client.create_collection("docs", embedding_function=function)
    made.add(ids=[str(row) for row in range(len(collection.documents))], documents=list(collection.documents))
    return made


@pytest.fixture(autouse=True)
def _own_process():
    """A process keeps the embedders of collections that it has opened; each test stands for a process of its own."""
    chroma._stored.cache_clear()


@pytest.fixture
def filled(tmp_path, collection, keys):
    """A folder with a collection of `SMALL`, 64 wide."""
    _fill(_client(tmp_path), MRLEmbeddingFunction({"model": SMALL, "dimensions": 64, "on_narrow": "allow"}), collection)
    return tmp_path


def test_searched_from_another_process(embedder, collection, tmp_path):
    collection = shortened(collection)
    _fill(_client(tmp_path), MRLEmbeddingFunction(embedder), collection)
    command = [sys.executable, "-W", "error", "-c", _READER, str(tmp_path)]
    done = subprocess.run(command, input=json.dumps(collection.queries), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    check_found(json.loads(done.stdout), embedder, collection)


def test_relevant_documents_are_found(collection, tmp_path):
    made = _fill(_client(tmp_path), MRLEmbeddingFunction("wordllama:l2-supercat-256"), collection)
    found = made.query(query_texts=list(collection.queries), n_results=10)["ids"]
    hits = [str(relevant) in ids for relevant, ids in zip(collection.relevant, found, strict=True)]
    assert np.mean(hits) > 0.5


def test_rows(embedder):
    function = MRLEmbeddingFunction(embedder)
    texts = ["Whales live in the sea.", "Bread needs flour."]
    for rows, expected in (
        (function(texts), embedder.embed_documents(texts)),
        (function.embed_query(texts), embedder.embed(texts, input_type="query").embeddings),
    ):
        assert isinstance(rows, list)
        assert {(row.dtype.name, row.shape) for row in rows} == {("float32", (64,))}
        np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_roles(profile, emulator, tmp_path):
    function = MRLEmbeddingFunction(profile)
    told = "prompts" if profile["model"].startswith("nomic") else "input_type"
    if profile["model"].startswith("voyage"):
        made = _client(tmp_path).create_collection("docs", embedding_function=function)
        emulator.clear()
        made.add(ids=["1"], documents=["Whales live in the sea."])
        made.query(query_texts=["Whales live in the sea."], n_results=1)
        assert [request.body[told] for request in emulator.requests] == ["document", "query"]
    document, query = function(["Whales"])[0], function.embed_query(["Whales"])[0]
    assert np.allclose(document, query) == (not profile["model"].startswith(("nomic", "voyage")))


def test_kept_configuration(filled, emulator):
    kept = _client(filled).get_collection("docs").configuration_json
    assert kept["hnsw"]["space"] == "cosine"
    function = kept["embedding_function"]
    assert function["name"] == "mrlclient"
    assert function["config"]["profile"]["model"] == SMALL
    assert function["config"]["contract"]["dimensions"] == 64
    assert emulator.openai_key not in json.dumps(kept)


def test_name_of_key_is_kept(keys, emulator, monkeypatch):
    monkeypatch.setenv("SEARCH_TEAM_KEY", emulator.openai_key)
    monkeypatch.delenv("OPENAI_API_KEY")
    config = MRLEmbeddingFunction({"model": SMALL, "api_key_env": "SEARCH_TEAM_KEY"}).get_config()
    MRLEmbeddingFunction.validate_config(json.loads(json.dumps(config)))
    assert config["profile"]["api_key_env"] == "SEARCH_TEAM_KEY"
    assert emulator.openai_key not in json.dumps(config)


def test_key_in_code_is_refused(emulator):
    provider = OpenAI("text-embedding-3-small", api_key="sk-in-code", base_url=emulator.openai_base_url)
    with Embedder(provider) as embedder, pytest.raises(ConfigurationError) as caught:
        MRLEmbeddingFunction(embedder)
    assert "sk-in-code" not in str(caught.value)
    assert not emulator.requests


@pytest.mark.parametrize("model", [LARGE, "wordllama:l2-supercat-256"])
def test_other_model_of_the_same_width(filled, emulator, model):
    with Embedder(model, dimensions=64, on_narrow="allow") as embedder:
        emulator.clear()
        with pytest.raises(IncompatibleSpaceError, match=f"holds vectors of {SMALL}, 64 wide"):
            open_collection(_client(filled), "docs", embedder)
    assert not emulator.requests


def test_opened_or_made(filled):
    """As the page says: of a collection that is there, its own function is taken, whatever else is given."""
    client = _client(filled)
    function = MRLEmbeddingFunction("wordllama:l2-supercat-256", dimensions=64)
    opened = client.get_or_create_collection("docs", configuration={"embedding_function": function})
    opened.add(ids=["new"], documents=["Whales live in the sea."])
    row = opened.get(ids=["new"], include=["embeddings"])["embeddings"][0]
    made = client.get_or_create_collection("others", configuration={"embedding_function": function})
    made.add(ids=["new"], documents=["Whales live in the sea."])
    other = made.get(ids=["new"], include=["embeddings"])["embeddings"][0]
    with Embedder(SMALL, dimensions=64, on_narrow="allow") as embedder:
        np.testing.assert_allclose(row, embedder.embed_documents(["Whales live in the sea."])[0], atol=1e-6)
    np.testing.assert_allclose(other, function(["Whales live in the sea."])[0], atol=1e-6)
    assert opened.query(query_texts=["Whales live in the sea."], n_results=1)["ids"] == [["new"]]


def test_narrower_embedder(filled):
    with pytest.raises(IncompatibleSpaceError, match="gives 32 dimensions"):
        open_collection(_client(filled), "docs", {"model": SMALL, "dimensions": 32, "on_narrow": "allow"})


def test_wider_embedder_asks_with_its_prefix(filled, emulator, collection):
    kept = _client(filled).get_collection("docs")
    with Embedder(SMALL, on_narrow="allow") as wide:
        opened = open_collection(_client(filled), "docs", wide)
        emulator.clear()
        found = opened.query(query_texts=list(collection.queries[:20]), n_results=5)
        assert [request.body["dimensions"] for request in emulator.requests] == [64]
    assert found["ids"] == kept.query(query_texts=list(collection.queries[:20]), n_results=5)["ids"]


@pytest.mark.parametrize(
    "use",
    [
        lambda client: open_collection(client, "docs", {"model": SMALL, "on_narrow": "allow"}),
        lambda client: client.get_collection("docs").query(query_texts=["Whales"]),
    ],
    ids=["given", "stored"],
)
def test_model_that_has_changed(filled, emulator, use):
    """Behind the same name the server has another model now."""
    emulator.faults.append(Fault(edit=_another_model, times=99))
    with pytest.raises(IncompatibleSpaceError, match="no longer that model"):
        use(_client(filled))


def _another_model(payload):
    vectors = [row["embedding"] for row in payload["data"]]
    for row, vector in zip(payload["data"], vectors[1:] + vectors[:1], strict=True):
        row["embedding"] = vector
    return payload


def test_checked_once(filled, emulator):
    kept = _client(filled).get_collection("docs")
    emulator.clear()
    for _ in range(3):
        kept.query(query_texts=["Whales"], n_results=1)
    kept.upsert(ids=["0"], documents=["Whales"])
    assert [len(request.body["input"]) for request in emulator.requests] == [8, 1, 1, 1, 1]


def test_refused_key_before_anything_is_made(bad_key, emulator, tmp_path):
    client = _client(tmp_path)
    with pytest.raises(AuthenticationError):
        client.create_collection("docs", embedding_function=MRLEmbeddingFunction(bad_key))
    assert client.list_collections() == []
    assert len(emulator.requests) == 1


def test_refused_key_of_a_kept_collection(filled, emulator, monkeypatch):
    kept = _client(filled).get_collection("docs")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-refused")
    emulator.clear()
    for call in (lambda: kept.query(query_texts=["Whales"]), lambda: kept.add(ids=["new"], documents=["Whales"])):
        with pytest.raises(AuthenticationError):
            call()
    assert len(emulator.requests) == 2
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        kept.query(query_texts=["Whales"])
    monkeypatch.setenv("OPENAI_API_KEY", emulator.openai_key)
    assert kept.query(query_texts=["Whales"], n_results=1)["ids"]
    assert "new" not in kept.get()["ids"]


def test_text_that_cannot_be_embedded(filled):
    with pytest.raises(InputError) as caught:
        _client(filled).get_collection("docs").add(ids=["a", "b"], documents=["Whales", " "])
    assert caught.value.index == 1


def test_no_texts(keys, emulator):
    function = MRLEmbeddingFunction(SMALL)
    emulator.clear()
    assert function.embed_query([]) == []
    with pytest.raises(ValueError, match="non-empty"):  # Chroma's own: it takes no function that gives nothing
        function([])
    assert not emulator.requests


@pytest.mark.parametrize(
    "other", [{"model": LARGE, "dimensions": 64}, {"model": SMALL, "dimensions": 128}], ids=["model", "width"]
)
def test_refused_update(filled, other):
    client = _client(filled)
    kept = client.get_collection("docs")
    before = kept.configuration_json["embedding_function"]["config"]
    mine = MRLEmbeddingFunction.build_from_config(before)
    with pytest.raises(IncompatibleSpaceError, match="Chroma has stored the new configuration"):
        kept.modify(configuration={"embedding_function": MRLEmbeddingFunction(other | {"on_narrow": "allow"})})
    kept.modify(configuration={"embedding_function": mine})
    assert client.get_collection("docs").configuration_json["embedding_function"]["config"] == before


def test_update(filled, emulator, monkeypatch):
    """What does not touch the vectors may change."""
    monkeypatch.setenv("SEARCH_TEAM_KEY", emulator.openai_key)
    client = _client(filled)
    profile = {"model": SMALL, "dimensions": 64, "on_narrow": "allow", "api_key_env": "SEARCH_TEAM_KEY"}
    client.get_collection("docs").modify(configuration={"embedding_function": MRLEmbeddingFunction(profile)})
    monkeypatch.delenv("OPENAI_API_KEY")
    assert client.get_collection("docs").query(query_texts=["Whales"], n_results=1)["ids"]


def test_drifted_update(filled, emulator):
    """A new contract does not hide that the model has changed."""
    emulator.faults.append(Fault(edit=_another_model, times=99))
    changed = MRLEmbeddingFunction({"model": SMALL, "dimensions": 64, "on_narrow": "allow"})
    with pytest.raises(IncompatibleSpaceError, match="no longer that model"):
        _client(filled).get_collection("docs").modify(configuration={"embedding_function": changed})


@pytest.mark.parametrize("lost", ["profile", "contract"])
def test_damaged_configuration(keys, lost):
    config = MRLEmbeddingFunction(SMALL).get_config()
    del config[lost]
    with pytest.raises(ConfigurationError, match="contract and profile"):
        MRLEmbeddingFunction.validate_config(config)
    with pytest.raises(ConfigurationError, match="contract and profile"):
        MRLEmbeddingFunction.build_from_config(config)


def test_collection_of_somebody_else(tmp_path):
    client = _client(tmp_path)
    client.create_collection("docs", embedding_function=None)
    with pytest.raises(ConfigurationError, match="not made with MRLEmbeddingFunction"):
        open_collection(client, "docs", "wordllama:l2-supercat-256")


def test_stored_model_by_default(filled, collection):
    opened = open_collection(_client(filled), "docs")
    assert opened.query(query_texts=[collection.documents[7]], n_results=1)["ids"] == [["7"]]


def test_no_text_is_left_in_our_frames(filled, emulator):
    emulator.faults.append(Fault(status=400, times=99, when=lambda request: len(request.body["input"]) == 1))
    with pytest.raises(BadRequestError) as caught:
        _client(filled).get_collection("docs").query(query_texts=["private words"])
    ours = [each for each in caught.traceback if "mrlclient" in str(each.path) and "tests" not in str(each.path)]
    assert ours
    assert not any("private" in repr(value) for each in ours for value in each.frame.f_locals.values())


def test_function_in_a_schema(tmp_path, keys):
    """Chroma's other way to say it."""
    schema = chromadb.Schema()
    schema.create_index(config=chromadb.VectorIndexConfig(embedding_function=MRLEmbeddingFunction(SMALL)))
    made = _client(tmp_path).create_collection("docs", schema=schema)
    made.add(ids=["0", "1"], documents=["Whales", "Bread"])
    assert open_collection(_client(tmp_path), "docs").query(query_texts=["Bread"], n_results=1)["ids"] == [["1"]]
    with pytest.raises(IncompatibleSpaceError):
        open_collection(_client(tmp_path), "docs", {"model": LARGE, "dimensions": 1536})


def test_pickle(embedder):
    text = ["Whales live in the sea."]
    function = MRLEmbeddingFunction(embedder)
    copy = pickle.loads(pickle.dumps(function))
    assert copy.get_config() == function.get_config()
    np.testing.assert_allclose(copy(text), function(text), atol=1e-6)


@pytest.fixture
def server(tmp_path):
    """A real server of Chroma's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from chromadb.cli.cli import app; app()"
    command = [sys.executable, "-c", code, "run", "--path", str(tmp_path), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
        running.terminate()


def test_async(server, emulator, keys, collection):
    async def use():
        client = await chromadb.AsyncHttpClient(host="127.0.0.1", port=server)
        function = MRLEmbeddingFunction({"model": SMALL, "dimensions": 64, "on_narrow": "allow"})
        made = await client.create_collection("docs", embedding_function=function)
        await made.add(ids=["0", "1"], documents=list(collection.documents[:2]))
        opened = await aopen_collection(client, "docs", {"model": SMALL, "on_narrow": "allow"})
        found = await opened.query(query_texts=[collection.documents[1]], n_results=1)
        with pytest.raises(IncompatibleSpaceError):
            await aopen_collection(client, "docs", {"model": LARGE, "dimensions": 64, "on_narrow": "allow"})
        return found["ids"]

    assert asyncio.run(use()) == [["1"]]


def test_without_chromadb(monkeypatch):
    monkeypatch.setitem(sys.modules, "chromadb", None)
    monkeypatch.delitem(sys.modules, "mrlclient.integrations.chroma")
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'mrlclient[chroma]'")):
        importlib.import_module("mrlclient.integrations.chroma")
