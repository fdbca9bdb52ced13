"""FAISS: an index is found again by the model that filled it, and by no other."""

from __future__ import annotations

import pytest

from mrlclient import ConfigurationError, Embedder, IncompatibleSpaceError, InputError
from tests.integrations.stores import WIDTH, check_refusals, check_search, filling, other_model, wider

pytest.importorskip("faiss", reason="faiss-cpu is not installed here")

import faiss

from mrlclient.integrations.faiss import (
    IndexVectors,
    new_index,
    read_contract,
    read_index,
    write_index,
)


def filled(vectors, collection, factory="Flat"):
    index = new_index(vectors, factory)
    for chunk in vectors.batches(collection.documents, batch_size=64):
        index.add(chunk.embeddings)
    return index


@pytest.fixture
def path(tmp_path, collection):
    """An index on disk."""
    with filling() as embedder:
        vectors = IndexVectors.new(embedder)
        write_index(filled(vectors, collection), tmp_path / "index.faiss", vectors)
    return tmp_path / "index.faiss"


@pytest.mark.parametrize("factory", ["Flat", "HNSW32"])
@pytest.mark.parametrize("again", [filling, wider])
def test_what_was_written_is_found(factory, again, tmp_path, collection):
    with filling() as embedder:
        vectors = IndexVectors.new(embedder)
        write_index(filled(vectors, collection, factory), tmp_path / "index", vectors)
    with again() as embedder:
        index, vectors = read_index(str(tmp_path / "index"), embedder)
        if factory != "Flat":
            # A graph of so few is searched whole.
            faiss.ParameterSpace().set_index_parameter(index, "efSearch", len(collection.documents))
        check_search(collection, lambda query: index.search(vectors.query(query)[None], 5)[1][0].tolist())


def test_who_does_not_belong_reads_nothing(path, emulator):
    with other_model(emulator) as other, pytest.raises(IncompatibleSpaceError, match="wordllama:l2-supercat-256"):
        read_index(path, other)
    with other_model(emulator) as other, pytest.raises(IncompatibleSpaceError):
        read_index(path, other, canary=False)
    check_refusals(read_contract(path), emulator)


def test_a_view_of_wider_vectors_and_nan_do_not_get_in(collection):
    """FAISS takes NaN without an error, and says nothing of what is wrong with another width."""
    with Embedder() as embedder:
        vectors = IndexVectors.new(embedder, WIDTH)
        rows = embedder.embed_documents(collection.documents)
        index = new_index(vectors)
        index.add(vectors.fit(rows))
        check_search(collection, lambda query: index.search(vectors.query(query)[None], 5)[1][0].tolist())
        rows[7, 3] = float("nan")
        with pytest.raises(InputError, match="Row 7 is not finite"):
            index.add(vectors.fit(rows))
    assert index.ntotal == len(collection.documents)


def test_an_index_of_another_width_is_not_written(tmp_path):
    with wider() as embedder:
        vectors = IndexVectors.new(embedder, WIDTH)
        with pytest.raises(ConfigurationError, match="256 wide, and the contract is of an index 128 wide"):
            write_index(faiss.IndexFlatIP(256), tmp_path / "index", vectors)
    assert not list(tmp_path.iterdir())


def test_another_index_in_its_place_is_refused(path):
    faiss.write_index(faiss.IndexFlatIP(64), str(path))
    with filling() as embedder, pytest.raises(ConfigurationError, match=r"64 wide, and the contract is of .* 128 wide"):
        read_index(path, embedder)


def test_what_cannot_be_read_or_written_says_so(path, tmp_path):
    with filling() as embedder:
        with pytest.raises(ConfigurationError, match=r"There is no index .*nothing"):
            read_index(tmp_path / "nothing", embedder)
        (tmp_path / "bare").write_bytes(b"")
        with pytest.raises(ConfigurationError, match="bare has no contract"):
            read_index(tmp_path / "bare", embedder)
        _, vectors = read_index(path, embedder)
        with pytest.raises(ConfigurationError, match=r"cannot be used: 'f' failed: could not open"):
            write_index(new_index(vectors), tmp_path / "folder" / "index", vectors)
        with pytest.raises(ConfigurationError, match="FAISS makes no index 'Nope' of 128"):
            new_index(vectors, "Nope")
        path.write_bytes(b"something else entirely")
        with pytest.raises(ConfigurationError, match=r"FAISS cannot read .*not recognized"):
            read_index(path, embedder)
        path.unlink()
        with pytest.raises(ConfigurationError, match=r"FAISS cannot read .*No such file"):
            read_index(path, embedder)
