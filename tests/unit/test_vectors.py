import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrlclient import DimensionsOutOfRangeError
from mrlclient.vectors import l2_normalize, normalize_usable, truncate_dimensions, unusable_rows

matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.integers(1, 40)),
    elements=st.floats(-1e3, 1e3, width=32),
)


def usable(vectors, width):
    """Whether a prefix of every row has a direction that float32 can hold."""
    return bool((np.abs(vectors[:, :width]).max(axis=1, initial=0) > 1e-3).all())


@given(matrices, st.data())
def test_rows_are_unit_and_the_input_is_untouched(vectors, data):
    width = data.draw(st.integers(1, vectors.shape[1]))
    before = vectors.copy()
    cut = truncate_dimensions(vectors, width)
    assert np.array_equal(vectors, before)
    assert (cut.dtype, cut.shape, cut.flags["C_CONTIGUOUS"]) == (np.float32, (len(vectors), width), True)
    if usable(vectors, width):
        np.testing.assert_allclose(np.linalg.norm(cut.astype(np.float64), axis=1), 1, atol=1e-6)


@given(matrices, st.data())
def test_cutting_twice_is_cutting_once(vectors, data):
    wide = data.draw(st.integers(1, vectors.shape[1]))
    narrow = data.draw(st.integers(1, wide))
    if usable(vectors, narrow):
        once = truncate_dimensions(vectors, narrow)
        twice = truncate_dimensions(truncate_dimensions(vectors, wide), narrow)
        np.testing.assert_allclose(twice, once, atol=1e-6)


@given(st.integers(1, 64))
def test_centring_is_the_layer_norm_of_the_recipe(width):
    """Layer norm without affine over the full width, slice, L2, as the model card of Nomic v1.5 writes it."""
    vectors = np.random.default_rng(width).normal(0.3, 1, (5, 64)).astype(np.float32)
    wide = vectors.astype(np.float64)
    normed = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    expected = normed[:, :width] / np.linalg.norm(normed[:, :width], axis=1, keepdims=True)
    np.testing.assert_allclose(truncate_dimensions(vectors, width, center=True), expected, atol=1e-5)
    plain = truncate_dimensions(vectors, width)
    assert width < 4 or np.abs(plain - expected).max() > 1e-2


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-12, 1.0, 1e12, 1e30, 3e38])
def test_any_magnitude_normalises(scale):
    row = np.array([[0.6, -0.8, 0.0]], dtype=np.float64) * scale
    tolerance = 2e-3 if scale < 1e-40 else 1e-6  # a denormal number has few digits
    np.testing.assert_allclose(l2_normalize(row.astype(np.float32)), [[0.6, -0.8, 0.0]], atol=tolerance)


def test_blocks_agree_with_the_whole():
    vectors = np.random.default_rng(0).normal(size=(1000, 48)).astype(np.float32)
    vectors[500] *= 1e25
    expected = vectors[:, :20].astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(truncate_dimensions(vectors, 20), expected, atol=1e-6)


def test_a_zero_row_stays_zero():
    assert not truncate_dimensions(np.array([[0, 0, 1], [1, 1, 1]], dtype=np.float32), 2)[0].any()


@pytest.mark.parametrize(
    ("row", "problem"),
    [([np.nan, 1], "not finite"), ([1, np.inf], "not finite"), ([-np.inf, 0], "not finite"), ([0, 0], "all zero")],
)
def test_finds_the_unusable_rows(row, problem):
    vectors = np.array([[1, 2], row, [1e-30, 1e25], row], dtype=np.float32)
    assert unusable_rows(vectors) == {1: problem, 3: problem}
    assert unusable_rows(vectors[:1]) == {}
    assert unusable_rows(np.array([[0.6, 0.8], row], np.float32), unit_length=True) == {1: problem}


@pytest.mark.parametrize("length", [3.0, 1e-30, 1e25])
def test_finds_rows_that_are_no_unit_vectors(length):
    vectors = np.array([[0.6, 0.8], [0.6 * length, 0.8 * length], [0.3, 0.4]], dtype=np.float32)
    assert unusable_rows(vectors, unit_length=True) == {1: f"of length {length:.3g}, where the model's are of length 1"}


#: Rows of every kind, several blocks of them.
MANY = np.random.default_rng(1).normal(size=(300, 2000)).astype(np.float32)
MANY /= np.linalg.norm(MANY, axis=1, keepdims=True)
MANY[7] *= 3
MANY[99, 5] = np.nan
MANY[100] = 0
MANY[201] *= 1e-30
MANY[202] *= 1e25
MANY[299, 0] = -np.inf


@pytest.mark.parametrize("unit_length", [False, True])
def test_checking_and_normalising_at_once(unit_length):
    rows = MANY.copy()
    problems = normalize_usable(rows, unit_length=unit_length)
    assert problems == unusable_rows(MANY, unit_length=unit_length)
    assert list(problems) == ([7, 99, 100, 201, 202, 299] if unit_length else [99, 100, 299])
    usable = np.setdiff1d(np.arange(len(rows)), list(problems))
    np.testing.assert_array_equal(rows[usable], l2_normalize(MANY[usable]))
    assert normalize_usable(np.empty((0, 4), np.float32)) == {}


@pytest.mark.parametrize("unit_length", [False, True])
def test_one_row_is_treated_as_it_is_among_many(unit_length):
    rows = MANY.copy()
    problems = normalize_usable(rows, unit_length=unit_length)
    for i in range(len(rows)):
        row = MANY[i : i + 1].copy()
        (problem,) = normalize_usable(row, unit_length=unit_length).values() or (None,)
        assert problem == problems.get(i)
        if problem is None:
            np.testing.assert_array_equal(row[0], rows[i])


def test_blocks_of_rows_are_the_rows():
    for width in (1, 7, 1999, 2000):
        rows = MANY[101:201, :width]
        np.testing.assert_array_equal(truncate_dimensions(MANY[101:201], width), l2_normalize(rows))
        np.testing.assert_array_equal(
            np.vstack([l2_normalize(rows[i : i + 1]) for i in range(100)]), l2_normalize(rows)
        )


def test_what_numpy_shall_do_about_overflows_is_the_callers_own():
    with np.errstate(all="raise"):
        normalize_usable(MANY[200:203].copy())
        l2_normalize(np.array([[1e-38, 1.0]], np.float32))
        assert unusable_rows(MANY[202:203]) == {}


@pytest.mark.parametrize("shape", [(2, 1), (4,), (2, 2, 4)])
def test_what_cannot_be_cut_is_refused(shape):
    with pytest.raises(DimensionsOutOfRangeError):
        truncate_dimensions(np.ones(shape, np.float32), 4)


def test_integers_are_normalised_as_floats():
    np.testing.assert_allclose(l2_normalize(np.array([[60, 80]], np.int8)), [[0.6, 0.8]])
