import numpy as np
import pytest

from mrlclient import DimensionsOutOfRangeError, EmbeddingResult, NarrowDimensionsWarning, NotMatryoshkaError, Usage
from mrlclient.models import find_model


def result_of(address="wordllama:l2-supercat-256", width=256, **options):
    rows = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return EmbeddingResult(rows, find_model(address), "native", None, None, Usage(3, 0.0), **options)


def test_at_is_slice_and_l2():
    result = result_of(on_narrow="allow")
    for width in range(1, 257):
        cut = result.at(width)
        expected = result.embeddings[:, :width].astype(np.float64)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(cut, expected, atol=1e-6)
        assert cut.flags["C_CONTIGUOUS"]


def test_at_says_what_to_do_where_it_cannot():
    result = result_of(width=128)
    with pytest.raises(DimensionsOutOfRangeError, match=r"dimensions=\[128, 200\]"):
        result.at(200)
    with pytest.raises(DimensionsOutOfRangeError, match="1 to 256"):
        result.at(257)
    with pytest.raises(NotMatryoshkaError):
        result_of("openai:text-embedding-ada-002", 1536).at(256)


def test_at_minds_narrow_widths():
    with pytest.warns(NarrowDimensionsWarning, match="64"):
        result_of().at(63)
    with pytest.raises(DimensionsOutOfRangeError):
        result_of(on_narrow="error").at(63)


def test_it_is_an_array():
    result = result_of()
    assert np.asarray(result) is result.embeddings
    assert result.at(result.dimensions) is result.embeddings
    assert np.array(result) is not result.embeddings
    assert (np.asarray(result) @ result[0]).shape == (3,)
    assert [row.shape for row in result] == [(256,)] * 3
    assert result[1:].shape == (2, 256)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(result, dtype=np.float64, copy=False)
