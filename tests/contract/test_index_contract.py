"""An index's contract: whoever belongs to the index is taken, everybody else is refused, if possible at no cost."""

from __future__ import annotations

import base64
import dataclasses
import json
import pickle
from functools import partial

import anyio
import numpy as np
import pytest

from mrlclient import (
    AuthenticationError,
    ConfigurationError,
    DimensionsOutOfRangeError,
    Embedder,
    IncompatibleSpaceError,
    IndexContract,
    ModelSpec,
    NarrowDimensionsWarning,
    Nomic,
    NotMatryoshkaError,
    OpenAI,
    Voyage,
    catalogue,
    l2_normalize,
)
from mrlclient.canary import CANARY_TEXTS, compare
from mrlclient.contract import contract_of
from mrlclient.testing.emulator import Fault
from tests.conftest import TINY_NOMIC

SMALL = catalogue().models["openai:text-embedding-3-small"]
NOMIC = catalogue().models["nomic:nomic-embed-text-v1.5"]
FACES = ["sync", "asyncio", "trio"]


@pytest.fixture
def small(emulator):
    """Makes an embedder of OpenAI's small model."""

    def make(spec: ModelSpec | str = SMALL, **options) -> Embedder:
        provider = OpenAI(spec, api_key=emulator.openai_key, base_url=emulator.openai_base_url)
        return Embedder(provider, **({"dimensions": 512} | options))

    return make


@pytest.fixture
def voyage(emulator):
    """Makes a provider of one of Voyage's models."""

    def make(model: str) -> Voyage:
        return Voyage(model, api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)

    return make


def tiny(spec=NOMIC, folder=TINY_NOMIC, **options):
    return Embedder(Nomic(spec, model_path=folder, **options), on_narrow="allow", dimensions=256)


def check(face, contract, embedder, **options):
    if face == "sync":
        contract.check(embedder, **options)
    else:
        run(face, contract.acheck, embedder, **options)


def run(face, call, *arguments, **options):
    """Awaits a call under an event loop of that name."""
    return anyio.run(partial(call, *arguments, **options), backend=face)


# --- what it says


@pytest.mark.parametrize("face", FACES)
def test_it_says_what_the_vectors_are_after_one_request(face, small, emulator):
    with small() as embedder:
        contract = embedder.contract() if face == "sync" else run(face, embedder.acontract)
        assert len(emulator.requests) == 1
        expected = embedder.embed(CANARY_TEXTS, input_type="document").embeddings
    assert (contract.space, contract.model) == ("openai/text-embedding-3-small", "openai:text-embedding-3-small")
    assert (contract.dimensions, contract.recipe, contract.revision) == (512, "slice_l2", None)
    assert (contract.input_type, contract.document_prompt, contract.query_prompt) == ("document", "", "")
    kept = np.frombuffer(contract.canary, "<f4").reshape(8, 64)
    np.testing.assert_allclose(kept, l2_normalize(expected[:, :64]), atol=1e-6)


def test_it_says_what_is_put_before_a_text():
    with tiny() as embedder:
        contract = embedder.contract()
    assert (contract.document_prompt, contract.query_prompt) == ("search_document: ", "search_query: ")
    assert contract.recipe == "center_slice_l2"
    assert contract.revision is None, "a folder does not say of which commit it is"


def test_it_says_the_revision_that_is_in_use():
    contract = contract_of(Nomic(revision="abc"), 256, np.eye(8, 256, dtype=np.float32))
    assert contract.revision == "abc"
    assert contract_of(Nomic(), 256, np.eye(8, 256, dtype=np.float32)).revision == NOMIC.revision


@pytest.mark.parametrize("width", [3, 64, 100])
def test_a_narrower_index_than_the_embedder(width):
    with Embedder(on_narrow="allow") as embedder:
        contract = embedder.contract(width)
    assert contract.dimensions == width
    assert len(contract.canary) == 8 * min(width, 64) * 4
    assert len(contract.to_json()) < 4096


def test_a_width_that_cannot_be_had_is_refused_before_a_request(small, emulator):
    with small() as embedder:
        with pytest.raises(DimensionsOutOfRangeError, match="wider than the model"):
            embedder.contract(2000)
        with pytest.raises(DimensionsOutOfRangeError, match="not an integer"):
            embedder.contract([512, 256])
        with pytest.warns(NarrowDimensionsWarning):
            embedder.contract(256)
    with small("text-embedding-ada-002", dimensions=None) as embedder, pytest.raises(NotMatryoshkaError):
        embedder.contract(256)
    assert len(emulator.requests) == 1
    with pytest.raises(ConfigurationError, match="closed"):
        embedder.contract()


# --- writing and reading


@pytest.fixture(scope="module")
def contract():
    """Of the embedded model."""
    with Embedder() as embedder:
        return embedder.contract()


def test_it_travels_as_json_as_a_dictionary_and_as_a_pickle(contract):
    text = contract.to_json()
    assert text.isascii()
    assert "\n" not in text
    for again in (
        IndexContract.from_json(text),
        IndexContract.from_json(text.encode()),
        IndexContract.from_dict(contract.to_dict()),
        pickle.loads(pickle.dumps(contract)),
    ):
        assert again == contract
        assert hash(again) == hash(contract)
    assert json.loads(text) == contract.to_dict()
    assert len(repr(contract)) < 300


def with_canary(rows):
    return {"canary": base64.b64encode(np.asarray(rows, "<f4").tobytes()).decode()}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "mrlclient canary"}, "no format"),
        ({"version": 2}, "version is 2, and this reads 1"),
        ({"version": True}, "version is True"),
        ({"more": 1}, "not those of version 1: more"),
        ({"space": ""}, "space must be"),
        ({"model": None}, "model must be"),
        ({"revision": 3}, "revision must be"),
        ({"dimensions": True}, "dimensions must be"),
        ({"dimensions": 0}, "dimensions must be"),
        ({"dimensions": 256.0}, "dimensions must be"),
        ({"dimensions": float("nan")}, "dimensions must be"),
        ({"dimensions": 32}, "canary must be 8 vectors of 32"),
        ({"recipe": "mean"}, "recipe must be"),
        ({"recipe": []}, "recipe must be"),
        ({"input_type": "query"}, "input_type must be"),
        ({"query_prompt": None}, "must be strings"),
        ({"canary": "?"}, "canary is not base64"),
        ({"canary": None}, "canary is not base64"),
        ({"canary": ""}, "canary must be 8 vectors"),
        (with_canary(np.eye(7, 64)), "canary must be 8 vectors"),
        (with_canary(np.full((8, 64), np.nan)), "unit vectors"),
        (with_canary(np.full((8, 64), np.inf)), "unit vectors"),
        (with_canary(np.zeros((8, 64))), "unit vectors"),
        (with_canary(np.eye(8, 64) * 1.1), "unit vectors"),
    ],
)
def test_what_was_not_written_here_is_refused(contract, change, problem):
    values = contract.to_dict() | change
    with pytest.raises(ConfigurationError, match=problem):
        IndexContract.from_dict(values)
    with pytest.raises(ConfigurationError, match="keep embedder"):
        IndexContract.from_json(json.dumps(values))


def test_every_missing_value_is_refused(contract):
    for name in contract.to_dict():
        values = contract.to_dict()
        del values[name]
        with pytest.raises(ConfigurationError, match=name):
            IndexContract.from_dict(values)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", b"\xff\xfe\x00", None, "[" * 100_000])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(ConfigurationError, match="not the contract of an index"):
        IndexContract.from_json(text)


# --- who belongs


@pytest.mark.parametrize("face", FACES)
def test_the_same_model_belongs_and_is_asked_once(face, small, emulator):
    with small() as embedder:
        contract = IndexContract.from_json(embedder.contract().to_json())
    emulator.clear()
    with small() as again:
        check(face, contract, again)
        assert len(emulator.requests) == 1
        check(face, contract, again, canary=False)
        assert len(emulator.requests) == 1


@pytest.mark.parametrize("width", [512, 700, 1536, [1536, 512]])
@pytest.mark.parametrize("fetch", ["requested", "native"])
def test_a_wider_embedder_belongs_and_its_queries_find(width, fetch, small):
    with small() as embedder:
        contract = embedder.contract()
        documents = embedder.embed_documents(CANARY_TEXTS)
    with small(dimensions=width, fetch=fetch) as wider:
        contract.check(wider)
        query = wider.embed([CANARY_TEXTS[3]], input_type="query", dimensions=contract.dimensions).embeddings[0]
    assert int(np.argmax(documents @ query)) == 3


def test_the_canary_comes_from_no_cache(small, emulator):
    """A cache has what the model was; the canary asks what it is."""
    with small(cache="memory:") as embedder:
        embedder.embed(CANARY_TEXTS, input_type="document")
        contract = embedder.contract()
        contract.check(embedder)
        assert len(emulator.requests) == 3
        embedder.embed(CANARY_TEXTS, input_type="document")
        assert len(emulator.requests) == 3


def test_another_model_of_the_space_belongs_and_is_not_compared(voyage, emulator):
    with Embedder(voyage("voyage-4"), dimensions=256) as embedder:
        contract = embedder.contract()
    emulator.clear()
    for options in ({}, {"query_model": voyage("voyage-4-lite")}, {"fallback": [voyage("voyage-4-lite")]}):
        with Embedder(voyage("voyage-4-large"), dimensions=256, **options) as other:
            contract.check(other)
    assert not emulator.requests
    with Embedder(voyage("voyage-4"), query_model=voyage("voyage-4-lite"), dimensions=256) as other:
        contract.check(other)
    with Embedder(voyage("voyage-4-lite"), query_model=voyage("voyage-4"), dimensions=256) as other:
        contract.check(other)
    assert [request.body["model"] for request in emulator.requests] == ["voyage-4", "voyage-4"]
    assert {request.body["input_type"] for request in emulator.requests} == {"document"}


# --- who does not


def refusal(contract, embedder, **options):
    with embedder, pytest.raises(IncompatibleSpaceError) as caught:
        contract.check(embedder, **options)
    return str(caught.value)


def test_another_space_is_refused_unasked(small, emulator, voyage):
    with small() as embedder:
        contract = embedder.contract()
    emulator.clear()
    for canary in (True, False):
        message = refusal(contract, small("text-embedding-3-large"), canary=canary)
        assert message == (
            "The index holds vectors of openai:text-embedding-3-small, 512 wide, but openai:text-embedding-3-large has "
            "a space of its own, 'openai/text-embedding-3-large', where the index has 'openai/text-embedding-3-small'. "
            "Embed the index again with this embedder, or make one of openai:text-embedding-3-small with "
            "dimensions=512."
        )
    assert "voyage:voyage-4" in refusal(contract, Embedder(voyage("voyage-4"), dimensions=512))
    assert not emulator.requests


def test_a_narrower_embedder_is_refused_unasked(small, emulator):
    with small() as embedder:
        contract = embedder.contract(1024)
    emulator.clear()
    message = refusal(contract, small())
    assert "1024 wide, but the embedder gives 512 dimensions" in message
    assert message.endswith("make one of openai:text-embedding-3-small with dimensions=1024.")
    assert not emulator.requests


def test_a_model_that_may_not_be_cut_or_is_too_narrow_is_refused(small):
    """Both declare the space of the index."""
    with small() as embedder:
        contract = embedder.contract()
    whole = {"provider": "openai", "name": "whole", "native_dimensions": 1536, "matryoshka": False}
    whole["space"] = contract.space
    assert "cannot give 512: it may not be cut" in refusal(contract, small(ModelSpec(**whole), dimensions=None))
    narrow = whole | {"native_dimensions": 100, "name": "narrow"}
    assert "openai:narrow has 100 dimensions" in refusal(contract, small(ModelSpec(**narrow), dimensions=None))


def test_who_may_answer_instead_has_to_belong_too(voyage, emulator):
    """The fallback is wide enough for the embedder's own width, but may not be cut to the index's."""
    with Embedder(voyage("voyage-4"), dimensions=2048) as embedder:
        contract = embedder.contract(256)
    emulator.clear()
    whole = dataclasses.replace(
        catalogue().models["voyage:voyage-4-lite"], matryoshka=False, server_dimensions=None, server_cut_is_prefix=False
    )
    for role in ("endpoints", "fallback", "query_model"):
        stand_in = voyage(whole)
        options = {role: stand_in if role == "query_model" else [stand_in]}
        message = refusal(contract, Embedder(voyage("voyage-4"), dimensions=2048, **options))
        assert "voyage:voyage-4-lite has 2048 dimensions and cannot give 256" in message
    assert not emulator.requests


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"recipe": "slice_l2"}, "the embedder cuts by 'slice_l2', and the index was cut by 'center_slice_l2'"),
        ({"prompts": {"document": "search_document: "}}, "puts '' before a query, and the index has 'search_query: '"),
        ({"prompts": {"query": "search_query: "}}, "puts '' before a document"),
    ],
)
def test_the_same_model_declared_otherwise_is_refused(change, problem):
    with tiny() as embedder:
        contract = embedder.contract()
    assert problem in refusal(contract, tiny(dataclasses.replace(NOMIC, **change)), canary=False)


def test_another_revision_is_refused():
    rows = np.eye(8, 256, dtype=np.float32)
    contract = contract_of(Nomic(revision="abc"), 256, rows)
    message = refusal(contract, Embedder("nomic:nomic-embed-text-v1.5"), canary=False)
    assert (
        f"revision abc, 256 wide, but the embedder has it at revision {NOMIC.revision}, and the index at abc" in message
    )
    contract.check(Embedder(Nomic(revision="abc")), canary=False)


# --- what only the canary can tell


def turned(answer):
    """An answer of another model of that name: each vector in reverse."""
    for row in answer["data"]:
        numbers = np.frombuffer(base64.b64decode(row["embedding"]), "<f4")
        row["embedding"] = base64.b64encode(numbers[::-1].tobytes()).decode()
    return answer


@pytest.mark.parametrize("face", FACES)
def test_a_model_that_was_changed_behind_its_name_is_refused(face, small, emulator):
    with small(dimensions=None) as embedder:
        contract = embedder.contract(512)
    with small(dimensions=None, fetch="native") as embedder:
        emulator.faults.append(Fault(edit=turned))
        with pytest.raises(IncompatibleSpaceError, match="no longer that model: the worst cosine"):
            check(face, contract, embedder)
        check(face, contract, embedder)


def test_other_files_in_the_folder_are_refused():
    """Of a folder's revision nothing is known."""
    with tiny() as embedder:
        contract = embedder.contract()
        contract.check(embedder)
    quantized = {"onnx_file": "onnx/model_quantized.onnx"}
    assert "no longer that model" in refusal(contract, tiny(**quantized))
    with tiny(**quantized) as embedder:
        embedder.contract().check(embedder)


def test_whoever_fails_says_so(small, emulator):
    with small() as embedder:
        contract = embedder.contract()
        bad = OpenAI("text-embedding-3-small", api_key="sk-refused", base_url=emulator.openai_base_url)
        with Embedder(bad, dimensions=512) as other, pytest.raises(AuthenticationError):
            contract.check(other)
    with pytest.raises(ConfigurationError, match="closed"):
        contract.check(embedder)
    with pytest.raises(ConfigurationError, match="check takes an Embedder, not str"):
        contract.check("openai:text-embedding-3-small")


# --- what the canary's first numbers are enough for


@pytest.mark.parametrize("width", [8, 64, 256])
@pytest.mark.parametrize("model", ["small", "wordllama", "nomic"])
def test_noise_is_no_other_model_and_every_change_is_one(model, width, small):
    """The noise is the largest that was measured of a server's own cut, on each number of the full vectors."""
    rng = np.random.default_rng(0)
    make = {"small": lambda: small(on_narrow="allow"), "wordllama": lambda: Embedder(on_narrow="allow"), "nomic": tiny}
    with make[model]() as embedder:
        contract = embedder.contract(width)
        kept = np.frombuffer(contract.canary, "<f4").reshape(8, -1)
        whole = embedder.embed(CANARY_TEXTS, dimensions=embedder.spec.native_dimensions, input_type="document")
        for _ in range(200):
            noise = rng.choice([-1.7e-4, 1.7e-4], whole.embeddings.shape).astype(np.float32)
            assert compare(kept, (whole.embeddings + noise)[:, :width]) > 0.9995
        as_queries = [f"search_query: {text}" for text in CANARY_TEXTS]
        changes = [
            whole.embeddings[:, ::-1],
            whole.embeddings[:, rng.permutation(width)],
            whole.embeddings[::-1],
            embedder.embed(as_queries, dimensions=embedder.spec.native_dimensions).embeddings,
        ]
    assert max(compare(kept, changed[:, :width]) for changed in changes) < 0.99
