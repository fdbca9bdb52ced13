"""Searching in two stages: what it finds is what an exact search finds, wherever the shortlist has it."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import (
    ConfigurationError,
    DimensionsOutOfRangeError,
    Embedder,
    IncompatibleSpaceError,
    NarrowDimensionsWarning,
    Nomic,
    NotMatryoshkaError,
    OpenAI,
    Voyage,
    l2_normalize,
    search,
    truncate_dimensions,
)
from mrlclient.evaluate import rank
from mrlclient.search import Funnel, Hits, funnel, top_k
from tests.conftest import TINY_NOMIC


def unit(rows, width, seed=0, dtype=np.float32):
    """Unit rows, as a matrix whose earlier numbers matter more."""
    made = np.random.default_rng(seed).standard_normal((rows, width)) / np.sqrt(np.arange(1, width + 1))
    return l2_normalize(made.astype(np.float32)).astype(dtype)


def exact(matrix, queries, k):
    """The exact search that all is measured by: every score by itself, then sorted."""
    scores = np.stack([np.vecdot(matrix.astype(np.float32), query.astype(np.float32)) for query in queries])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


@st.composite
def problems(draw):
    """A matrix with rows that are alike, some queries, and what to look for."""
    width = draw(st.integers(2, 40))
    rows = draw(st.integers(1, 60))
    matrix = unit(rows, width, draw(st.integers(0, 99)))[draw(st.lists(st.integers(0, rows - 1), min_size=1))]
    queries = unit(draw(st.integers(1, 4)), width, 100 + draw(st.integers(0, 99)))
    depth = draw(st.integers(1, len(matrix) + 3))
    return matrix, queries, draw(st.integers(1, width)), depth, draw(st.integers(1, depth))


@given(problems())
def test_laws(problem):
    """Scores are the full width's dot products, in order; equal ones by index; nothing is found twice or changed."""
    matrix, queries, width, depth, k = problem
    before = matrix.copy(), queries.copy()
    hits = funnel(queries, matrix, shortlist_dimensions=width, depth=depth, k=k)
    assert (hits.indices.dtype, hits.scores.dtype) == (np.intp, np.float32)
    assert hits.indices.shape == hits.scores.shape == (len(queries), min(k, len(matrix)))
    for query, indices, scores in zip(queries, *hits, strict=True):
        np.testing.assert_array_equal(scores, np.vecdot(matrix[indices], query))
        np.testing.assert_allclose(scores, matrix[indices] @ query, atol=1e-6)
        order = list(zip((-scores).tolist(), indices.tolist(), strict=True))
        assert order == sorted(set(order))
    np.testing.assert_array_equal(matrix, before[0])
    np.testing.assert_array_equal(queries, before[1])


@given(problems())
def test_a_deep_shortlist_is_an_exact_search(problem):
    matrix, queries, width, _, k = problem
    hits = funnel(queries, matrix, shortlist_dimensions=width, depth=max(len(matrix), k), k=k)
    indices, scores = exact(matrix, queries, k)
    np.testing.assert_array_equal(hits.indices, indices)
    np.testing.assert_array_equal(hits.scores, scores)


@given(problems())
def test_a_wide_shortlist_is_an_exact_search(problem):
    """At the full width the first stage has the right order already, but for rounding."""
    matrix, queries, _, depth, k = problem
    hits = funnel(queries, matrix, shortlist_dimensions=matrix.shape[1], depth=depth, k=k)
    np.testing.assert_allclose(hits.scores, exact(matrix, queries, k)[1], atol=1e-6)


@given(
    st.integers(1, 3),
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from([3, 30, 10**6]),
    st.integers(0, 999),
)
def test_top_k_sorts(queries, count, k, different, seed):
    """Whether groups are looked at first or not, and however many scores tie."""
    k = min(k, count)
    scores = np.random.default_rng(seed).integers(different, size=(queries, count)).astype(np.float32)
    np.testing.assert_array_equal(top_k(scores, k), np.argsort(-scores, axis=1, kind="stable")[:, :k])


def test_what_the_shortlist_has_not_is_not_found():
    """The first stage decides by the prefix's direction, whatever its length."""
    matrix = l2_normalize(np.array([[0.8, 0.6, 0, 0], [0.1, 0, 1, 0], [0, 0.1, 0, 1]], dtype=np.float32))
    query = l2_normalize(np.array([[1, 0, 0.1, 0]], dtype=np.float32))
    assert exact(matrix, query, 3)[0].tolist() == [[0, 1, 2]]
    assert funnel(query, matrix, shortlist_dimensions=2, depth=2, k=2).indices.tolist() == [[0, 1]]
    assert funnel(query, matrix, shortlist_dimensions=2, depth=1, k=1).indices.tolist() == [[1]]


def test_one_query_and_several():
    matrix, queries = unit(500, 32), unit(7, 32, 1)
    prepared = Funnel(matrix, shortlist_dimensions=8, depth=50)
    several = prepared.search(queries, 5)
    assert isinstance(several, Hits)
    for row, query in enumerate(queries):
        one = prepared.search(query, 5)
        assert one.indices.shape == (1, 5)
        np.testing.assert_array_equal(one.indices[0], several.indices[row])
        np.testing.assert_array_equal(one.scores[0], several.scores[row])
        np.testing.assert_array_equal(one, funnel(query, matrix, shortlist_dimensions=8, depth=50, k=5))
    assert prepared.search(queries[:0], 5).indices.shape == (0, 5)
    assert len(prepared) == 500
    assert repr(prepared) == "Funnel(500 × 32, shortlist_dimensions=8, depth=50)"


def test_queries_beyond_a_block(monkeypatch):
    matrix, queries = unit(300, 16), unit(20, 16, 1)
    whole = Funnel(matrix, shortlist_dimensions=4, depth=20).search(queries, 5)
    monkeypatch.setattr(search, "_SCORES", 1000)
    np.testing.assert_array_equal(Funnel(matrix, shortlist_dimensions=4, depth=20).search(queries, 5), whole)


def test_fewer_rows_than_asked_for():
    assert funnel(unit(2, 8), unit(3, 8), shortlist_dimensions=4).indices.shape == (2, 3)
    assert funnel(unit(2, 8), unit(0, 8), shortlist_dimensions=4).scores.shape == (2, 0)


@pytest.mark.parametrize("layout", ["F", "strided", "memmap", "readonly"])
def test_any_layout(layout, tmp_path):
    plain, queries = unit(400, 32), unit(3, 32, 1)
    matrix = plain
    if layout == "F":
        matrix = np.asfortranarray(plain)
    elif layout == "strided":
        matrix = np.repeat(np.repeat(plain, 2, axis=0), 3, axis=1)[::2, ::3]
        queries = np.repeat(queries, 2, axis=1)[:, ::2]
    elif layout == "memmap":
        np.save(tmp_path / "matrix.npy", plain)
        matrix = np.load(tmp_path / "matrix.npy", mmap_mode="r")
    else:
        matrix = plain.copy()
        matrix.flags.writeable = False
    ours = Funnel(matrix, shortlist_dimensions=8, depth=40).search(queries, 5)
    reference = Funnel(plain, shortlist_dimensions=8, depth=40).search(np.ascontiguousarray(queries), 5)
    np.testing.assert_array_equal(ours.indices, reference.indices)
    np.testing.assert_allclose(ours.scores, reference.scores, atol=1e-6)


def test_float16():
    matrix, queries = unit(400, 256, dtype=np.float16), unit(3, 256, 1, dtype=np.float16)
    hits = Funnel(matrix, shortlist_dimensions=64, depth=100).search(queries, 5)
    assert hits.scores.dtype == np.float32
    for query, indices, scores in zip(queries, *hits, strict=True):
        np.testing.assert_array_equal(scores, np.vecdot(matrix[indices].astype(np.float32), query.astype(np.float32)))


def test_it_pickles_and_threads_share_it():
    matrix, queries = unit(2000, 32), unit(8, 32, 1)
    prepared = Funnel(matrix, shortlist_dimensions=8, depth=40)
    alone = prepared.search(queries, 5)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(prepared)).search(queries, 5), alone)
    found = []
    threads = [threading.Thread(target=lambda: found.append(prepared.search(queries, 5))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for hits in found:
        np.testing.assert_array_equal(hits, alone)


def test_equal_rows_stand_by_index():
    matrix = unit(11, 48)[np.random.default_rng(0).integers(11, size=700)]
    for query in unit(5, 48, 1):
        hits = funnel(query, matrix, shortlist_dimensions=16, depth=700, k=700)
        assert len(np.unique(hits.scores)) <= 11
        np.testing.assert_array_equal(hits.indices[0], exact(matrix, query[None], 700)[0][0])


# --- what is refused


def spoiled(row, value, rows=300):
    matrix = unit(rows, 16).copy()
    matrix[row] = value
    return matrix


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (spoiled(250, np.nan), "Row 250 of matrix is not finite"),
        (spoiled(7, np.inf), "Row 7 of matrix is not finite"),
        (spoiled(299, 1.0), r"Row 299 of matrix is of length 4, not 1: l2_normalize\(matrix\)"),
        (spoiled(0, 0.0), "Row 0 of matrix is of length 0, not 1"),
        (spoiled(3, np.eye(16)[15]), "Row 3 of matrix is all zero in its first 8 dimensions"),
        (unit(3, 16).astype(np.float64), "matrix must be a numpy array of float32 or float16, not of float64"),
        ((unit(3, 16) * 127).astype(np.int8), "not of int8"),
        (unit(3, 16).tolist(), "not of list"),
        (np.ma.masked_array(unit(3, 16)), "not of MaskedArray"),
        (unit(3, 16)[0], r"matrix has the shape \(16,\)"),
        (unit(3, 4), "shortlist_dimensions=8 is wider than the matrix. Take 1 to 4"),
        (np.empty((3, 0), dtype=np.float32), "wider than the matrix"),
    ],
)
def test_a_matrix_that_is_none(matrix, message):
    with pytest.raises(ConfigurationError, match=message):
        Funnel(matrix, shortlist_dimensions=8)


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (unit(2, 8), 5, r"shape \(2, 8\), and the matrix is 16 wide: take \(16,\) or \(q, 16\)"),
        (unit(2, 32), 5, "the matrix is 16 wide"),
        (unit(2, 16)[None], 5, "shape"),
        (np.float32(1), 5, "queries must be a numpy array"),
        (np.array(1, dtype=np.float32), 5, "shape"),
        (unit(2, 16).astype(float), 5, "not of float64"),
        (spoiled(1, np.nan, rows=2), 5, "Row 1 of queries is not finite"),
        (2 * unit(2, 16), 5, "Row 0 of queries is of length 2, not 1"),
        (unit(2, 16), 0, "k must be a positive integer, not 0"),
        (unit(2, 16), True, "k must be a positive integer, not True"),
        (unit(2, 16), 2.5, "k must be a positive integer, not 2.5"),
        (unit(2, 16), 21, "k=21 is more than depth=20"),
    ],
)
def test_queries_that_are_none(queries, k, message):
    with pytest.raises(ConfigurationError, match=message):
        Funnel(unit(100, 16), shortlist_dimensions=8, depth=20).search(queries, k)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shortlist_dimensions": 0}, "shortlist_dimensions must be a positive integer, not 0"),
        ({"shortlist_dimensions": "8"}, "not '8'"),
        ({"depth": -1}, "depth must be a positive integer, not -1"),
        ({"recipe": "slice"}, "recipe must be one of slice_l2, center_slice_l2, not 'slice'"),
        ({"index": object()}, "index must be a usearch.index.Index, not object"),
    ],
)
def test_arguments_that_are_none(arguments, message):
    pytest.importorskip("usearch")
    with pytest.raises(ConfigurationError, match=message):
        Funnel(unit(10, 16), **{"shortlist_dimensions": 8} | arguments)


# --- models and their recipes

TEXTS = ["whales live in the sea", "bread needs flour", "a violin has four strings", "rates rose again"]


def test_results_know_their_model():
    with Embedder(on_narrow="warn") as embedder:
        documents = embedder.embed(TEXTS, input_type="document")
        queries = embedder.embed(["ocean animals"], input_type="query")
    hits = Funnel(documents, shortlist_dimensions=64, depth=2).search(queries, 2)
    assert hits.indices[0, 0] == 0
    np.testing.assert_array_equal(hits, funnel(queries.embeddings, documents.embeddings, depth=2, k=2))
    with pytest.warns(NarrowDimensionsWarning):
        Funnel(documents, shortlist_dimensions=8)
    with pytest.raises(ConfigurationError, match="centered where they have to be"):
        Funnel(documents, recipe="center_slice_l2")


def test_results_of_models_that_do_not_go_together(emulator):
    def openai(name, texts=TEXTS, **settings):
        provider = OpenAI(name, api_key=emulator.openai_key, base_url=emulator.openai_base_url)
        with Embedder(provider) as embedder:
            return embedder.embed(texts, **settings)

    def voyage(**settings):
        provider = Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)
        with Embedder(provider, **settings) as embedder:
            return embedder.embed(TEXTS, input_type="document")

    with pytest.raises(IncompatibleSpaceError, match="cannot search documents of"):
        Funnel(voyage(), shortlist_dimensions=256).search(openai("text-embedding-3-small"))
    with pytest.raises(NotMatryoshkaError):
        Funnel(openai("text-embedding-ada-002"))
    with pytest.raises(DimensionsOutOfRangeError):
        Funnel(voyage(on_narrow="error"), shortlist_dimensions=8)
    some_failed = openai("text-embedding-3-small", [*TEXTS, "whale " * 50_000], on_error="return")
    with pytest.raises(ConfigurationError, match="Row 4 of matrix is not finite"):
        Funnel(some_failed, shortlist_dimensions=512)


def test_a_local_model_that_is_centered():
    with Embedder(Nomic(model_path=TINY_NOMIC)) as embedder:
        full = embedder.embed(TEXTS, input_type="document")
        narrow = embedder.embed(TEXTS, input_type="document", dimensions=64)
    np.testing.assert_allclose(Funnel(full)._prefixes, narrow.embeddings, atol=1e-5)


def test_a_model_that_is_centered():
    """What `embed` returns at full width is centred. Another server's full vector may not be: its prefix is wrong."""
    raw = l2_normalize(unit(400, 768) + np.float32(0.05))
    asked = l2_normalize(unit(20, 768, 1) + np.float32(0.05))
    ours, ours_asked = (truncate_dimensions(rows, 768, center=True) for rows in (raw, asked))
    plain = Funnel(ours, shortlist_dimensions=64, depth=30)
    centered = Funnel(raw, shortlist_dimensions=64, depth=30, recipe="center_slice_l2")
    np.testing.assert_allclose(plain._prefixes, truncate_dimensions(raw, 64, center=True), atol=1e-6)
    np.testing.assert_array_equal(centered._prefixes, truncate_dimensions(raw, 64, center=True))
    assert np.abs(Funnel(raw, shortlist_dimensions=64)._prefixes - plain._prefixes).max() > 0.01
    for (indices, scores), query in zip(zip(*centered.search(asked, 5), strict=True), asked, strict=True):
        np.testing.assert_array_equal(scores, np.vecdot(raw[indices], query))
    near = rank(truncate_dimensions(ours_asked, 64), truncate_dimensions(ours, 64), k=30)
    for row, indices in enumerate(centered.search(asked, 5).indices):
        assert set(indices.tolist()) <= set(near[row].tolist())
