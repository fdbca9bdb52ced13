"""A shortlist from a usearch index: the same search, where the index is one of the matrix's prefixes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mrlclient import ConfigurationError, MissingExtraError, l2_normalize, truncate_dimensions
from mrlclient.search import Funnel
from tests.unit.test_search import exact, spoiled, unit

usearch = pytest.importorskip("usearch.index")


def index_of(matrix, width=16, *, center=False, **settings):
    index = usearch.Index(**{"ndim": width, "metric": "ip", "dtype": "f32"} | settings)
    index.add(np.arange(len(matrix)), truncate_dimensions(matrix, width, center=center), threads=1)
    return index


@pytest.mark.parametrize("settings", [{}, {"metric": "cos"}, {"metric": "l2sq"}, {"dtype": "f16"}, {"dtype": "i8"}])
def test_it_finds_what_the_prefixes_find(settings, tmp_path):
    """HNSW is approximate: nearly all is found, and what is found has the full width's scores, in order."""
    matrix, queries = unit(3000, 64), unit(50, 64, 1)
    np.save(tmp_path / "matrix.npy", matrix)
    stored = np.load(tmp_path / "matrix.npy", mmap_mode="r")
    index_of(matrix, **settings).save(tmp_path / "prefixes.usearch")
    index = usearch.Index.restore(tmp_path / "prefixes.usearch", view=True)
    hits = Funnel(stored, shortlist_dimensions=16, depth=200, index=index).search(queries, 10)
    plain = Funnel(matrix, shortlist_dimensions=16, depth=200).search(queries, 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(hits.indices, plain.indices, strict=True)]) > 0.95
    for query, indices, scores in zip(queries, *hits, strict=True):
        np.testing.assert_array_equal(scores, np.vecdot(matrix[indices], query))
        order = list(zip((-scores).tolist(), indices.tolist(), strict=True))
        assert order == sorted(set(order))


def test_a_deep_shortlist_is_an_exact_search():
    matrix, queries = unit(150, 64), unit(5, 64, 1)
    prepared = Funnel(matrix, shortlist_dimensions=16, index=index_of(matrix))
    np.testing.assert_array_equal(prepared.search(queries, 20).indices, exact(matrix, queries, 20)[0])
    assert repr(prepared) == "Funnel(150 × 64, shortlist_dimensions=16, depth=200, over an index)"


def test_rows_that_are_alike_lose_nothing():
    """A graph over many equal rows leads nowhere after some of them; the shortlist is as deep as ever."""
    alike = np.repeat(np.eye(16, 32, dtype=np.float32), 500, axis=0)
    index = index_of(alike, expansion_add=1, expansion_search=1)
    assert len(index.search(alike[0, :16], 200).keys) < 200
    hits = Funnel(alike, shortlist_dimensions=16, depth=200, index=index).search(alike[[0, 7777]], 150)
    assert (hits.scores == 1).all()
    assert (hits.indices // 500 == [[0], [15]]).all()


def test_a_model_that_is_centered():
    raw = l2_normalize(unit(500, 64) + np.float32(0.1))
    index = index_of(raw, center=True)
    centered = Funnel(raw, shortlist_dimensions=16, depth=50, recipe="center_slice_l2", index=index)
    assert centered.search(raw[77], 1).indices.tolist() == [[77]]
    with pytest.raises(ConfigurationError, match="cut by another recipe"):
        Funnel(raw, shortlist_dimensions=16, index=index)


def shifted():
    index = usearch.Index(ndim=16, metric="ip")
    index.add(np.arange(1, 301), truncate_dimensions(unit(300, 32), 16))
    return index


def several_for_a_key():
    index = usearch.Index(ndim=16, metric="ip", multi=True)
    index.add(np.arange(300) // 2, truncate_dimensions(unit(300, 32), 16))
    return index


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: index_of(unit(299, 32)), "index holds 299 rows of 16 dimensions, where the matrix has 300"),
        (lambda: index_of(unit(300, 32), 8), "index holds 300 rows of 8 dimensions"),
        (lambda: index_of(unit(300, 32, 5)), "Row 0 of index is not the prefix of row 0"),
        (lambda: index_of(unit(300, 32)[::-1]), "Row 0 of index is not the prefix of row 0"),
        (shifted, "index has no row under the number 0"),
        (lambda: index_of(unit(300, 32), enable_key_lookups=False), "enable_key_lookups"),
        (several_for_a_key, "index keeps several rows under a key"),
        (lambda: usearch.Index(ndim=16, metric="pearson"), "index compares by Pearson"),
    ],
)
def test_an_index_of_something_else(make, message):
    with pytest.raises(ConfigurationError, match=message):
        Funnel(unit(300, 32), shortlist_dimensions=16, index=make())


def test_an_index_that_changed():
    matrix = unit(300, 32)
    index = index_of(matrix)
    prepared = Funnel(matrix, shortlist_dimensions=16, depth=200, index=index)
    index.remove(np.arange(150))
    with pytest.raises(ConfigurationError, match="Build it anew from the matrix"):
        prepared.search(matrix[200])
    index.add(np.arange(1000, 1150), truncate_dimensions(matrix[:150], 16))
    with pytest.raises(ConfigurationError, match="Build it anew from the matrix"):
        prepared.search(matrix[5])


def test_rows_are_checked_when_they_are_read():
    index = index_of(unit(300, 16))
    prepared = Funnel(spoiled(77, np.nan), shortlist_dimensions=16, depth=20, index=index)
    with pytest.raises(ConfigurationError, match="Row 77 of matrix is not finite"):
        prepared.search(unit(300, 16)[77])
    with pytest.raises(ConfigurationError, match="Row 299 of matrix is of length 4"):
        Funnel(spoiled(299, 1.0), shortlist_dimensions=16, depth=20, index=index)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mrlclient\[usearch\]'"):
        Funnel(unit(300, 32), shortlist_dimensions=16, index=object())
