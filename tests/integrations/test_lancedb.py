"""LanceDB: a table on disk keeps who embeds for it, and refuses anybody else."""

from __future__ import annotations

import asyncio
import importlib
import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("lancedb", reason="lancedb is not installed here")

import lancedb
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel
from pydantic import ValidationError

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
from mrlclient.integrations import lancedb as ours
from mrlclient.integrations.lancedb import MRLEmbeddingFunction
from mrlclient.testing.emulator import Fault
from tests.integrations.nearest import DEPTH, check_found, shortened

SMALL = "openai:text-embedding-3-small"
LARGE = "openai:text-embedding-3-large"
PROFILE = {"model": SMALL, "dimensions": 64, "on_narrow": "allow"}

#: Another process, which says nothing of a model.
_READER = f"""
import json, sys
import lancedb
import mrlclient.integrations.lancedb

table = lancedb.connect(sys.argv[1]).open_table("docs")
found = [table.search(query).limit({DEPTH}).to_list() for query in json.load(sys.stdin)]
print(json.dumps([[each["row"] for each in rows] for rows in found]))
"""


def _model(function):
    class Docs(LanceModel):
        row: int
        text: str | None = function.SourceField()
        vector: list[float] | None = function.VectorField(default=None)

    return Docs


def _make(folder, function):
    return lancedb.connect(folder).create_table("docs", schema=_model(function))


def _open(folder):
    return lancedb.connect(folder).open_table("docs")


def _fill(folder, function, collection):
    table = _make(folder, function)
    table.add([{"row": row, "text": text} for row, text in enumerate(collection.documents)])
    return table


def _rows(table, query, limit=5):
    return [found["row"] for found in table.search(query).limit(limit).to_list()]


@pytest.fixture(autouse=True)
def _own_process():
    """A process keeps the embedders of tables that it has opened; each test stands for a process of its own."""
    ours._shared.cache_clear()


@pytest.fixture
def filled(tmp_path, collection, keys):
    """A folder with a table of `SMALL`, 64 wide."""
    _fill(tmp_path, MRLEmbeddingFunction.create(model=PROFILE), shortened(collection))
    ours._shared.cache_clear()
    return tmp_path


@pytest.fixture
def variable():
    """Sets what a process has in place of `$var:embedder`."""
    registry = get_registry()
    yield lambda value: registry.set_var("embedder", value)
    registry._variables.pop("embedder", None)


@pytest.fixture
def left_open(tmp_path, keys, variable, collection):
    """A folder with a table of `SMALL`, 64 wide, which leaves the model to each process."""
    variable(PROFILE)
    _fill(tmp_path, MRLEmbeddingFunction.create(model="$var:embedder"), shortened(collection))
    ours._shared.cache_clear()
    return tmp_path


def test_searched_from_another_process(embedder, collection, tmp_path):
    collection = shortened(collection)
    _fill(tmp_path, MRLEmbeddingFunction.create(model=embedder), collection)
    command = [sys.executable, "-W", "error", "-c", _READER, str(tmp_path)]
    done = subprocess.run(command, input=json.dumps(collection.queries), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    check_found(json.loads(done.stdout), embedder, collection)


def test_relevant_documents_are_found(collection, tmp_path):
    table = _fill(tmp_path, MRLEmbeddingFunction.create(model="wordllama:l2-supercat-256"), collection)
    found = [_rows(table, query, 10) for query in collection.queries]
    hits = [relevant in rows for relevant, rows in zip(collection.relevant, found, strict=True)]
    assert np.mean(hits) > 0.5


def test_stored_vectors(embedder, tmp_path):
    texts = ["Whales live in the sea.", "Bread needs flour."]
    table = _make(tmp_path, MRLEmbeddingFunction.create(model=embedder))
    table.add([{"row": row, "text": text} for row, text in enumerate(texts)])
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 64)
    kept = np.array(table.to_arrow()["vector"].to_pylist(), dtype=np.float32)
    np.testing.assert_allclose(kept, embedder.embed_documents(texts), atol=1e-6)


def test_roles(profile, emulator):
    function = MRLEmbeddingFunction.create(model=profile)
    text = "Whales live in the sea."
    (document,), (also,), (query,) = (
        function.compute_source_embeddings(text),
        function.generate_embeddings([text]),
        function.compute_query_embeddings(text),
    )
    np.testing.assert_allclose(document, also, atol=1e-6)
    assert np.allclose(document, query) == (not profile["model"].startswith(("nomic", "voyage")))
    if profile["model"].startswith("voyage"):
        assert [request.body["input_type"] for request in emulator.requests] == ["document", "document", "query"]


@pytest.mark.parametrize(
    "texts",
    [
        ["Whales", None, "Bread"],
        (None, "Whales", None),
        pa.array(["Whales", None]),
        pa.chunked_array([["Whales"], [None, "Bread"]]),
        np.array([None, "Whales"], dtype=object),
    ],
    ids=lambda texts: type(texts).__name__,
)
def test_none_has_no_vector(keys, emulator, texts):
    function = MRLEmbeddingFunction.create(model=SMALL)
    given = texts.to_pylist() if isinstance(texts, pa.Array | pa.ChunkedArray) else list(texts)
    rows = function.compute_source_embeddings(texts)
    assert [row is None for row in rows] == [text is None for text in given]
    assert {(row.dtype.name, row.shape) for row in rows if row is not None} == {("float32", (1536,))}
    sent = [text for request in emulator.requests for text in request.body["input"]]
    assert sorted(sent) == sorted(text for text in given if text is not None)


@pytest.mark.parametrize("texts", [[], [None], [None, None]], ids=len)
def test_nothing_to_embed(keys, emulator, texts):
    assert MRLEmbeddingFunction.create(model=SMALL).compute_source_embeddings(texts) == texts
    assert not emulator.requests


@pytest.mark.parametrize("bad", [" ", 7], ids=["blank", "number"])
@pytest.mark.parametrize("others", [["Whales", None], [None], [None, "Whales"]], ids=len)
def test_error_names_the_row(keys, emulator, others, bad):
    with pytest.raises(InputError) as caught:
        MRLEmbeddingFunction.create(model=SMALL).compute_source_embeddings([*others, bad])
    assert caught.value.index == len(others)
    assert not emulator.requests


def test_query_that_is_no_text(keys, emulator):
    with pytest.raises(InputError, match="is dict, not a string"):
        MRLEmbeddingFunction.create(model=SMALL).compute_query_embeddings({"Whales": 1})
    assert not emulator.requests


def test_rows_without_text(tmp_path, keys):
    table = _make(tmp_path, MRLEmbeddingFunction.create(model=PROFILE))
    table.add([{"row": 0, "text": "Whales"}, {"row": 1, "text": None}], on_bad_vectors="null")
    assert [vector is None for vector in table.to_arrow()["vector"].to_pylist()] == [False, True]


def test_kept_arguments(filled, emulator):
    (kept,) = json.loads(_open(filled).schema.metadata[b"embedding_functions"])
    assert kept["name"] == "mrlclient"
    assert kept["model"]["model"] == PROFILE
    assert kept["model"]["contract"]["dimensions"] == 64
    assert emulator.openai_key not in json.dumps(kept)


def test_name_of_key_is_kept(keys, emulator, monkeypatch):
    monkeypatch.setenv("SEARCH_TEAM_KEY", emulator.openai_key)
    monkeypatch.delenv("OPENAI_API_KEY")
    function = MRLEmbeddingFunction.create(model={"model": SMALL, "api_key_env": "SEARCH_TEAM_KEY"})
    kept = json.dumps(function.safe_model_dump())
    assert "SEARCH_TEAM_KEY" in kept
    assert emulator.openai_key not in kept


def test_default_model_is_written_out(tmp_path, monkeypatch):
    """The default of another process may be another."""
    _make(tmp_path, MRLEmbeddingFunction.create())
    monkeypatch.setenv("MRLCLIENT_MODEL", SMALL)
    table = _open(tmp_path)
    table.add([{"row": 0, "text": "Whales"}])
    assert table.embedding_functions["vector"].function.model == {"model": "wordllama:l2-supercat-256"}


def test_key_in_code_is_refused(emulator, tmp_path):
    provider = OpenAI("text-embedding-3-small", api_key="sk-in-code", base_url=emulator.openai_base_url)
    with Embedder(provider) as embedder, pytest.raises(ConfigurationError) as caught:
        _make(tmp_path, MRLEmbeddingFunction.create(model=embedder))
    assert "sk-in-code" not in str(caught.value)
    assert not emulator.requests


def test_argument_that_is_unknown():
    with pytest.raises(ValidationError) as caught:
        MRLEmbeddingFunction.create(api_key="sk-secret")
    assert "api_key" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_no_retries_of_its_own(keys):
    with pytest.raises(ValidationError, match="max_retries"):
        MRLEmbeddingFunction.create(model=SMALL, max_retries=7)


@pytest.mark.parametrize("model", [LARGE, "wordllama:l2-supercat-256"])
def test_other_model_of_the_same_width(left_open, variable, emulator, model):
    variable({"model": model, "dimensions": 64, "on_narrow": "allow"})
    table = _open(left_open)
    emulator.clear()
    with pytest.raises(IncompatibleSpaceError, match=f"holds vectors of {SMALL}, 64 wide"):
        table.search("Whales").to_list()
    with pytest.raises(RuntimeError, match=f"IncompatibleSpaceError: The index holds vectors of {SMALL}"):
        table.add([{"row": 100, "text": "Whales"}])
    assert table.count_rows() == 100
    assert not emulator.requests


def test_schema_of_another_model(filled):
    """LanceDB itself refuses it: the contract is part of the schema."""
    other = MRLEmbeddingFunction.create(model={"model": LARGE, "dimensions": 64, "on_narrow": "allow"})
    with pytest.raises(ValueError, match="does not match"):
        lancedb.connect(filled).create_table("docs", schema=_model(other), exist_ok=True)


def test_variable_that_is_no_model(left_open, variable, emulator):
    variable(object())
    emulator.clear()
    with pytest.raises(ConfigurationError, match="A model is an address"):
        _open(left_open).search("Whales").to_list()
    assert not emulator.requests


def test_narrower_embedder(left_open, variable):
    variable(PROFILE | {"dimensions": 32})
    with pytest.raises(IncompatibleSpaceError, match="gives 32 dimensions"):
        _open(left_open).search("Whales").to_list()


def test_wider_embedder_asks_with_its_prefix(left_open, variable, emulator, collection):
    queries = collection.queries[:5]
    expected = [_rows(_open(left_open), query) for query in queries]
    with Embedder(SMALL, on_narrow="allow") as wide:
        variable(wide)
        table = _open(left_open)
        emulator.clear()
        assert [_rows(table, query) for query in queries] == expected
    check, *searches = [request.body["dimensions"] for request in emulator.requests]
    assert check >= 64
    assert searches == [64] * len(queries)


def test_model_that_has_changed(filled, emulator):
    """Behind the same name the server has another model now."""
    emulator.faults.append(Fault(edit=_another_model, times=99))
    with pytest.raises(IncompatibleSpaceError, match="no longer that model"):
        _open(filled).search("Whales").to_list()


def _another_model(payload):
    vectors = [row["embedding"] for row in payload["data"]]
    for row, vector in zip(payload["data"], vectors[1:] + vectors[:1], strict=True):
        row["embedding"] = vector
    return payload


def test_checked_once(filled, emulator):
    table = _open(filled)
    emulator.clear()
    for _ in range(3):
        table.search("Whales").to_list()
    table.add([{"row": 100, "text": "Whales"}])
    assert [len(request.body["input"]) for request in emulator.requests] == [8, 1, 1, 1, 1]


def test_refused_key_before_anything_is_made(bad_key, emulator, tmp_path):
    with pytest.raises(AuthenticationError):
        _make(tmp_path, MRLEmbeddingFunction.create(model=bad_key))
    assert list(tmp_path.iterdir()) == []
    assert len(emulator.requests) == 1


def test_refused_key_of_a_kept_table(filled, emulator, monkeypatch):
    table = _open(filled)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-refused")
    emulator.clear()
    with pytest.raises(AuthenticationError):
        table.search("Whales").to_list()
    with pytest.raises(RuntimeError, match="AuthenticationError"):  # through Arrow's C interface come words only
        table.add([{"row": 100, "text": "Whales"}])
    assert len(emulator.requests) == 2
    monkeypatch.setenv("OPENAI_API_KEY", emulator.openai_key)
    assert table.search("Whales").to_list()


@pytest.mark.parametrize("lost", ["canary", "space"])
def test_damaged_contract(keys, lost):
    kept = MRLEmbeddingFunction.create(model=SMALL).safe_model_dump()
    del kept["contract"][lost]
    with pytest.raises(ConfigurationError, match="not the contract of an index"):
        MRLEmbeddingFunction.create(**kept)


def test_kept_arguments_are_kept_again(filled, tmp_path):
    """A second table with the function of the first has the same arguments."""
    (first,) = json.loads(_open(filled).schema.metadata[b"embedding_functions"])
    function = _open(filled).embedding_functions["vector"].function
    second = lancedb.connect(tmp_path / "second").create_table("docs", schema=_model(function))
    assert json.loads(second.schema.metadata[b"embedding_functions"]) == [first]


def test_no_text_is_left_in_our_frames(filled, emulator):
    emulator.faults.append(Fault(status=400, times=99, when=lambda request: len(request.body["input"]) == 1))
    with pytest.raises(BadRequestError) as caught:
        _open(filled).search("private words").to_list()
    ours = [each for each in caught.traceback if "mrlclient" in str(each.path) and "tests" not in str(each.path)]
    assert ours
    assert not any("private" in repr(value) for each in ours for value in each.frame.f_locals.values())


def test_pickle(embedder):
    text = ["Whales live in the sea."]
    function = MRLEmbeddingFunction.create(model=embedder)
    copy = pickle.loads(pickle.dumps(function))
    assert copy.safe_model_dump() == function.safe_model_dump()
    np.testing.assert_allclose(copy.generate_embeddings(text), function.generate_embeddings(text), atol=1e-6)


def test_async(filled, collection):
    async def use():
        table = await (await lancedb.connect_async(filled)).open_table("docs")
        await table.add([{"row": 100, "text": "Whales live in the sea."}])
        found = await (await table.search("Whales live in the sea.")).limit(1).to_list()
        return found[0]["row"]

    assert asyncio.run(use()) == 100


def test_without_lancedb(monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    monkeypatch.setitem(sys.modules, "lancedb.embeddings", None)
    monkeypatch.delitem(sys.modules, "mrlclient.integrations.lancedb")
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'mrlclient[lancedb]'")):
        importlib.import_module("mrlclient.integrations.lancedb")


def test_changed_rows(filled, keys):
    """`merge_insert` embeds what it is given; LanceDB's `update` asks nobody, as the page says."""
    table = _open(filled)
    changed = [{"row": 0, "text": "Whales live in the sea."}, {"row": 9000, "text": "Bread needs flour."}]
    merged = table.merge_insert("row").when_matched_update_all().when_not_matched_insert_all()
    merged.execute(changed)
    with Embedder(SMALL, dimensions=64, on_narrow="allow") as embedder:
        for each in changed:
            [row] = table.search().where(f"row = {each['row']}").to_list()
            np.testing.assert_allclose(row["vector"], embedder.embed_documents([each["text"]])[0], atol=1e-6)
        table.update(where="row = 0", values={"text": "Rain falls from clouds."})
        [row] = table.search().where("row = 0").to_list()
        np.testing.assert_allclose(row["vector"], embedder.embed_documents(["Whales live in the sea."])[0], atol=1e-6)
