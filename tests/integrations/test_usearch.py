"""USearch: an index is found again by the model that filled it, and by no other."""

from __future__ import annotations

import numpy as np
import pytest

from mrlclient import ConfigurationError, IncompatibleSpaceError, InputError
from tests.integrations.stores import WIDTH, check_refusals, check_search, filling, other_model, wider

pytest.importorskip("usearch", reason="usearch is not installed here")

from usearch.index import Index

from mrlclient.integrations.usearch import (
    IndexVectors,
    new_index,
    read_contract,
    read_index,
    write_index,
)


def filled(vectors, collection, **options):
    index = new_index(vectors, **options)
    for chunk in vectors.batches(collection.documents, batch_size=64):
        index.add(np.arange(chunk.start, chunk.start + len(chunk.texts)), chunk.embeddings)
    return index


@pytest.fixture
def path(tmp_path, collection):
    """An index on disk."""
    with filling() as embedder:
        vectors = IndexVectors.new(embedder)
        write_index(filled(vectors, collection), tmp_path / "index.usearch", vectors)
    return tmp_path / "index.usearch"


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("again", [filling, wider])
def test_what_was_written_is_found(view, again, path, collection):
    with again() as embedder:
        index, vectors = read_index(path, embedder, view=view)
        # How much of a graph is searched is not ours to try.
        check_search(collection, lambda query: index.search(vectors.query(query), 5, exact=True).keys.tolist())


def test_numbers_are_kept_as_they_come(collection):
    with filling() as embedder:
        vectors = IndexVectors.new(embedder)
        rows = embedder.embed_documents(collection.documents)
        np.testing.assert_array_equal(filled(vectors, collection).get(np.arange(len(rows))), rows)
        assert str(filled(vectors, collection, dtype="f16").dtype) == "ScalarKind.F16"
        with pytest.raises(ConfigurationError, match="dtype must be"):
            new_index(vectors, dtype="b1")


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i8"])
def test_the_distance_is_one_minus_the_cosine(collection, dtype):
    with filling() as embedder:
        vectors = IndexVectors.new(embedder)
        index = filled(vectors, collection, dtype=dtype)
        query = vectors.query(collection.queries[0])
        found = index.search(query, 5, exact=True)
        rows = embedder.embed_documents(collection.documents)[found.keys.astype(int)]
        np.testing.assert_allclose(found.distances, 1 - rows @ query, atol=0.02)


def test_who_does_not_belong_reads_nothing(path, emulator):
    with other_model(emulator) as other, pytest.raises(IncompatibleSpaceError, match="wordllama:l2-supercat-256"):
        read_index(path, other)
    check_refusals(read_contract(path), emulator)


def test_nan_does_not_get_in(collection):
    """USearch takes it without an error, and from then on it is the nearest to everything."""
    with wider() as embedder:
        vectors = IndexVectors.new(embedder, WIDTH)
        rows = embedder.embed_documents(collection.documents)
        index = new_index(vectors)
        index.add(np.arange(len(rows)), vectors.fit(rows))
        check_search(collection, lambda query: index.search(vectors.query(query), 5, exact=True).keys.tolist())
        rows[7] = np.nan
        with pytest.raises(InputError, match="Row 7 is not finite"):
            index.add(np.arange(len(rows)), vectors.fit(rows))


def test_an_index_of_another_width_is_refused(path, tmp_path):
    with filling() as embedder:
        vectors = IndexVectors.new(embedder)
        with pytest.raises(ConfigurationError, match="256 wide, and the contract is of an index 128 wide"):
            write_index(Index(ndim=256), tmp_path / "other", vectors)
        Index(ndim=64).save(str(path))
        with pytest.raises(ConfigurationError, match="64 wide, and the contract is of an index 128 wide"):
            read_index(path, embedder)


def test_what_cannot_be_read_or_written_says_so(path, tmp_path):
    with filling() as embedder:
        with pytest.raises(ConfigurationError, match=r"There is no index .*nothing"):
            read_index(tmp_path / "nothing", embedder)
        (tmp_path / "bare").write_bytes(b"")
        with pytest.raises(ConfigurationError, match="bare has no contract"):
            read_index(tmp_path / "bare", embedder)
        index, vectors = read_index(path, embedder)
        with pytest.raises(ConfigurationError, match="cannot be used"):
            write_index(index, tmp_path / "folder" / "index", vectors)
        path.write_bytes(b"something else entirely" * 100)
        with pytest.raises(ConfigurationError, match=r"USearch cannot read .*Not a dense USearch index"):
            read_index(path, embedder)
        path.unlink()
        with pytest.raises(ConfigurationError, match=r"USearch cannot read .*it is not there"):
            read_index(path, embedder)
