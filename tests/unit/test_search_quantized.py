"""A shortlist of codes, put in order by floats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import ConfigurationError, Embedder, l2_normalize, truncate_dimensions
from mrlclient.quantize import Ranges, quantize, scores
from mrlclient.search import Funnel, top_k

DTYPES = ["float32", "float16", "int8", "uint8", "binary", "ubinary"]


def unit(rows, width, seed=0):
    return l2_normalize(np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32))


def made(vectors, dtype):
    return quantize(vectors, dtype, Ranges(1, vectors.shape[1]) if dtype in ("int8", "uint8") else None)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(0, 99), st.integers(1, 60), st.sampled_from([8, 16, 32]), st.integers(1, 20))
def test_the_best_of_the_codes_are_ordered_by_the_floats(dtype, seed, rows, width, depth):
    matrix, queries = unit(rows, 32, seed), unit(3, 32, seed + 100)
    codes = made(truncate_dimensions(matrix, width), dtype)
    hits = Funnel(matrix, quantized=codes, depth=depth).search(queries, k=min(5, depth))
    asked = truncate_dimensions(queries, width)
    coarse = scores(made(asked, dtype) if codes.dtype in ("binary", "ubinary") else asked, codes)
    for query, indices, found in zip(range(3), *hits, strict=True):
        near = top_k(coarse[query : query + 1], min(depth, rows))[0]
        exact = np.vecdot(matrix[np.sort(near)], queries[query])
        best = np.sort(near)[np.argsort(-exact, kind="stable")][: len(indices)]
        np.testing.assert_array_equal(indices, best)
        np.testing.assert_array_equal(found, np.vecdot(matrix[indices], queries[query]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_all_rows_are_on_the_shortlist_it_is_an_exact_search(dtype):
    matrix, queries = unit(50, 16), unit(4, 16, 1)
    hits = Funnel(matrix, quantized=made(matrix, dtype), depth=50).search(queries)
    np.testing.assert_array_equal(hits.indices, top_k(np.stack([np.vecdot(matrix, q) for q in queries]), 10))


def test_codes_of_other_rows_are_refused():
    matrix = unit(50, 16)
    for codes, options in [
        (made(matrix[:49], "binary"), {}),
        (made(unit(50, 8), "binary"), {"shortlist_dimensions": 16}),
    ]:
        with pytest.raises(ConfigurationError, match="Quantize the matrix's own rows"):
            Funnel(matrix, quantized=codes, **options)
    with pytest.raises(ConfigurationError, match="shortlist_dimensions=32 is wider"):
        Funnel(matrix, quantized=made(unit(50, 32), "binary"))
    with pytest.raises(ConfigurationError, match="Give one of them"):
        Funnel(matrix, quantized=made(matrix, "binary"), index=object())


def test_a_row_that_is_no_unit_vector_is_refused_when_it_is_read():
    matrix = unit(50, 16)
    codes = made(matrix, "binary")
    matrix[7] *= 2
    with pytest.raises(ConfigurationError, match="Row 7 of matrix is of length 2"):
        Funnel(matrix, quantized=codes, depth=50).search(unit(1, 16))


def test_a_result_with_its_own_codes():
    texts = [f"{name} is number {number}" for number, name in enumerate(["a whale", "a loaf", "a train"] * 80)]
    with Embedder() as embedder:
        documents = embedder.embed(texts, dtype="binary", input_type="document")
        funnel = Funnel(documents, quantized=documents.quantized, depth=20)
        query = embedder.embed_query("a whale is number 42")
    assert funnel.search(query, 1).indices[0, 0] == int((documents.embeddings @ query).argmax())
    assert repr(funnel) == "Funnel(240 × 256, shortlist_dimensions=256, depth=20, quantized=binary)"
