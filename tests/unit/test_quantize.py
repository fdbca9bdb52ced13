"""Smaller numbers: what the codes stand for, in which order the bits are, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import warnings
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrlclient import ClippingWarning, ConfigurationError, DimensionsOutOfRangeError, l2_normalize, truncate_dimensions
from mrlclient.quantize import (
    DType,
    Quantized,
    Ranges,
    bytes_per_vector,
    calibrate,
    dequantize,
    quantize,
    scores,
)

DTYPES = get_args(DType)
SCALED = ("int8", "uint8")
PACKED = ("binary", "ubinary")


def unit(rows, width, seed=0):
    made = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return l2_normalize(made)


def wide_ranges(dtype, width, limit=1.0):
    return Ranges(limit, width) if dtype in SCALED else None


def made(vectors, dtype, limit=1.0):
    return quantize(vectors, dtype, wide_ranges(dtype, vectors.shape[1], limit))


widths = st.integers(1, 24).map(lambda eighth: 8 * eighth)
numbers = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 6), widths), elements=st.floats(-1, 1, width=32, allow_subnormal=False)
)


@given(numbers, st.floats(0.01, 1))
def test_int8_is_off_by_half_a_step_at_most(vectors, limit):
    vectors = vectors * np.float32(limit)
    before = vectors.copy()
    quantized = made(vectors, "int8", limit)
    np.testing.assert_array_equal(vectors, before)
    assert quantized.clipped == 0
    assert np.abs(dequantize(quantized) - vectors).max(initial=0) <= limit / 127 / 2 * (1 + 1e-5)


@given(numbers)
def test_float16_keeps_eleven_bits(vectors):
    error = np.abs(dequantize(quantize(vectors, "float16")) - vectors)
    assert (error <= np.maximum(np.abs(vectors) * 2.0**-11, 2.0**-25)).all()


@given(numbers)
def test_float32_is_the_matrix_itself(vectors):
    assert quantize(vectors, "float32").codes is vectors
    wider = quantize(vectors.astype(np.float16), "float32")
    np.testing.assert_array_equal(wider.codes, vectors.astype(np.float16).astype(np.float32))


@given(numbers)
def test_binary_keeps_signs(vectors):
    signs = dequantize(quantize(vectors, "ubinary"))
    np.testing.assert_array_equal(signs > 0, vectors > 0)
    np.testing.assert_allclose(np.linalg.norm(signs, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", SCALED)
@given(hnp.arrays(np.float32, (1, 40), elements=st.floats(-1, 1, width=32)), st.floats(0.1, 1))
def test_codes_are_monotone_and_the_same_for_a_number_wherever_it_stands(dtype, vectors, limit):
    row = np.sort(vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClippingWarning)
        codes = made(row, dtype, limit).codes[0].astype(int)
        backwards = made(row[:, ::-1], dtype, limit).codes[0].astype(int)
    assert (np.diff(codes) >= 0).all()
    np.testing.assert_array_equal(codes, backwards[::-1])


@pytest.mark.parametrize("dtype", PACKED)
def test_the_first_dimension_is_the_highest_bit(dtype):
    vectors = np.full((1, 16), -0.25, dtype=np.float32)
    vectors[0, [0, 15]] = 0.25
    assert quantize(vectors, dtype).codes.tolist() == [[0x80, 0x01] if dtype == "ubinary" else [0, -127]]


@given(numbers)
def test_offset_binary_is_the_packed_byte_less_128(vectors):
    """As Voyage's documentation has it: the packed bytes as numbers, less 128, as int8."""
    packed = np.packbits(vectors > 0, axis=1)
    codes = quantize(vectors, "binary").codes
    assert codes.dtype == np.int8
    np.testing.assert_array_equal(codes, (packed.astype(np.int16) - 128).astype(np.int8))
    np.testing.assert_array_equal(quantize(vectors, "ubinary").codes, packed)


def test_zero_and_a_negative_zero_are_no_bit_and_the_middle_code():
    zeros = np.array([[0.0, -0.0, 0.5, -0.5, 0, 0, 0, 0]], dtype=np.float32)
    assert quantize(zeros, "ubinary").codes.tolist() == [[0b00100000]]
    assert made(zeros, "int8").codes[0, :4].tolist() == [0, 0, 64, -64]
    assert made(zeros, "uint8").codes[0, :4].tolist() == [128, 128, 192, 64]


@pytest.mark.parametrize("dtype", [*SCALED, *PACKED])
@given(numbers)
def test_siblings_differ_by_128_and_stand_for_the_same(dtype, vectors):
    quantized = made(vectors, dtype)
    other = quantized.astype({"int8": "uint8", "uint8": "int8", "binary": "ubinary", "ubinary": "binary"}[dtype])
    difference = quantized.codes.astype(int) - other.codes.astype(int)
    assert (difference == (128 if quantized.codes.dtype == np.uint8 else -128)).all()
    np.testing.assert_array_equal(dequantize(other), dequantize(quantized))
    back = other.astype(dtype)
    np.testing.assert_array_equal(back.codes, quantized.codes)
    assert (back.dtype, back.dimensions, back.ranges) == (dtype, quantized.dimensions, quantized.ranges)
    with pytest.raises(ConfigurationError, match="quantize"):
        quantized.astype("float16")


@pytest.mark.parametrize("rows_in", DTYPES)
@given(st.sampled_from([None, *DTYPES]), widths, st.integers(0, 99))
def test_a_score_is_the_dot_product_of_what_the_codes_stand_for(rows_in, queries_in, width, seed):
    rows = made(unit(7, width, seed), rows_in)
    asked = unit(3, width, seed + 100)
    queries = asked if queries_in is None else made(asked, queries_in)
    expected = (asked if queries_in is None else dequantize(queries)).astype(np.float64) @ dequantize(rows).T
    found = scores(queries, rows)
    assert (found.dtype, found.shape) == (np.float32, (3, 7))
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("width", [8, 72, 1024])
def test_many_rows_are_scored_as_few_are(width):
    rows, queries = unit(1_000_000 // width, width), unit(2, width, 1)
    for dtype in DTYPES:
        quantized = made(rows, dtype)
        np.testing.assert_allclose(scores(queries, quantized), queries @ dequantize(quantized).T, atol=2e-6)
    hamming = (quantize(queries, "ubinary").codes[:, None] ^ quantize(rows, "ubinary").codes).astype(np.uint8)
    bits = np.unpackbits(hamming, axis=2).sum(axis=2)
    np.testing.assert_allclose(
        scores(quantize(queries, "binary"), quantize(rows, "ubinary")), 1 - 2 * bits / width, atol=1e-6
    )


def test_no_rows_and_no_queries():
    nothing = np.empty((0, 16), dtype=np.float32)
    for dtype in DTYPES:
        assert len(made(nothing, dtype)) == 0
        assert dequantize(made(nothing, dtype)).shape == (0, 16)
        assert scores(unit(2, 16), made(nothing, dtype)).shape == (2, 0)
        assert scores(made(nothing, dtype), made(unit(2, 16), dtype)).shape == (0, 2)


@pytest.mark.parametrize(("dtype", "size"), list(zip(DTYPES, (1024, 512, 256, 256, 32, 32), strict=True)))
def test_what_a_vector_takes(dtype, size):
    quantized = made(unit(3, 256), dtype)
    assert quantized.codes.nbytes == 3 * size
    assert quantized.bytes_per_vector == bytes_per_vector(dtype, 256) == size


def test_clipping_is_counted_and_said():
    vectors = np.array([[0.5, -0.6, 0.1, 0.9], [0.1, 0.2, 0.3, 0.4]], dtype=np.float32)
    with pytest.warns(ClippingWarning, match="2 of 8") as caught:
        quantized = quantize(vectors, "int8", Ranges(0.55, 4))
    assert caught[0].filename == __file__
    assert quantized.clipped == 2
    assert quantized.codes.tolist() == [[115, -127, 23, 127], [23, 46, 69, 92]]
    assert "clipped=2" in repr(quantized)
    assert quantized.astype("uint8").clipped == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(dtype, bad):
    vectors = unit(30_000, 16)
    vectors[20_001, 3] = bad
    with pytest.raises(ConfigurationError, match="Row 20001 of vectors is not finite"):
        made(vectors, dtype)
    with pytest.raises(ConfigurationError, match="Row 20001 of sample is not finite"):
        calibrate(vectors)
    with pytest.raises(ConfigurationError, match="Row 1 of queries is not finite"):
        scores(vectors[20_000:20_002], made(unit(2, 16), dtype))


def test_numbers_too_large_for_float16_are_refused():
    with pytest.raises(ConfigurationError, match=r"Row 1 .* float16 cannot hold"):
        quantize(np.array([[1], [7e4]], dtype=np.float32), "float16")


@pytest.mark.parametrize("dtype", PACKED)
def test_binary_is_cut_at_whole_bytes_only(dtype):
    quantized = quantize(unit(5, 64), dtype)
    for width in (8, 24, 56, 64):
        cut = quantized.at(width)
        np.testing.assert_array_equal(cut.codes, quantize(unit(5, 64)[:, :width], dtype).codes)
        np.testing.assert_allclose(np.linalg.norm(dequantize(cut), axis=1), 1, rtol=1e-6)
    with pytest.raises(DimensionsOutOfRangeError, match="take 24 or 32"):
        quantized.at(30)
    with pytest.raises(DimensionsOutOfRangeError, match="take 8"):
        quantize(unit(5, 4), dtype)
    with pytest.raises(DimensionsOutOfRangeError, match="take 96 or 104"):
        bytes_per_vector(dtype, 100)


@pytest.mark.parametrize("dtype", SCALED)
def test_int8_is_not_cut_without_its_scale_and_the_message_says_how(dtype):
    vectors = unit(200, 64)
    quantized = quantize(vectors, dtype, calibrate(vectors))
    assert quantized.at(64) is quantized
    with pytest.raises(ConfigurationError, match=r"truncate_dimensions\(dequantize\(quantized\), 16\)"):
        quantized.at(16)
    cut = truncate_dimensions(dequantize(quantized), 16)
    again = quantize(cut, dtype, calibrate(cut))
    assert np.vecdot(l2_normalize(dequantize(again)), truncate_dimensions(vectors, 16)).min() > 0.999


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_floats_are_cut_to_unit_rows(dtype):
    vectors = unit(5, 64)
    cut = quantize(vectors, dtype).at(10)
    assert (cut.dtype, cut.dimensions, cut.codes.dtype) == (dtype, 10, np.dtype(dtype))
    np.testing.assert_allclose(dequantize(cut), truncate_dimensions(vectors, 10), atol=1e-3)


@pytest.mark.parametrize("width", [0, -8, 65, 8.0, True, None])
def test_what_is_no_width_is_refused(width):
    with pytest.raises(DimensionsOutOfRangeError, match="1 to 64"):
        quantize(unit(5, 64), "ubinary").at(width)


@pytest.mark.parametrize("seed", range(5))
def test_ranges_of_a_sample_hold_the_others(seed):
    vectors = unit(2000, 32, seed)
    ranges = calibrate(vectors[:100])
    assert ranges.dimensions == 32
    assert ranges.limit == pytest.approx(1.25 * np.abs(vectors[:100]).max())
    quantized = quantize(vectors[:100], "int8", ranges)
    assert quantized.clipped == 0
    assert np.abs(quantized.codes.astype(int)).max() in (101, 102)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClippingWarning)
        others = quantize(vectors, "int8", ranges)
    assert others.clipped <= 0.0005 * vectors.size
    assert np.vecdot(l2_normalize(dequantize(others)), vectors).min() > 0.995


def test_a_sample_must_be_of_enough_different_vectors():
    vectors = unit(99, 16)
    for sample in (vectors, np.concatenate([vectors] * 3), vectors[:0]):
        with pytest.raises(ConfigurationError, match=f"^{min(len(sample), 99)} different vectors are too few"):
            calibrate(sample)
    calibrate(np.concatenate([vectors, -vectors[:1]]))


@pytest.mark.parametrize(
    ("dtype", "ranges", "problem"),
    [
        ("int8", None, r"int8 needs its ranges.*calibrate"),
        ("uint8", (-1, 1), "not tuple"),
        ("int8", Ranges(1, 8), "calibrated at 8 dimensions, and the vectors have 16"),
        ("float16", Ranges(1, 16), "float16 has no ranges"),
        ("binary", Ranges(1, 16), "binary has no ranges"),
        ("int4", None, "dtype must be one of float32, .*not 'int4'"),
        (np.int8, None, "dtype must be one of"),
        (None, None, "dtype must be one of"),
    ],
)
def test_types_and_ranges_that_do_not_fit_are_refused(dtype, ranges, problem):
    with pytest.raises(ConfigurationError, match=problem):
        quantize(unit(3, 16), dtype, ranges)


@pytest.mark.parametrize(
    ("vectors", "problem"),
    [
        ([[0.6, 0.8]], "not of list"),
        (np.array([[1, 2]]), "int64"),
        (np.array([[0.6, 0.8]]), "float64"),
        (np.array([0.6, 0.8], dtype=np.float32), r"shape \(2,\)"),
        (np.empty((3, 0), dtype=np.float32), r"shape \(3, 0\)"),
        (np.ma.array([[0.6, 0.8]], mask=[[True, False]], dtype=np.float32), "MaskedArray"),
    ],
)
def test_what_is_no_matrix_of_floats_is_refused(vectors, problem):
    for call in (lambda: quantize(vectors, "float16"), lambda: calibrate(vectors)):
        with pytest.raises(ConfigurationError, match=problem):
            call()
    with pytest.raises(ConfigurationError, match=problem):
        scores(vectors, quantize(unit(2, 2), "float16"))


@pytest.mark.parametrize("limit", [0, -1.0, np.nan, np.inf, 1e-40, "0.3", None, True])
def test_what_is_no_limit_is_refused(limit):
    with pytest.raises(ConfigurationError, match="limit must be a positive number"):
        Ranges(limit, 16)


def test_what_is_stored_makes_the_same_again():
    """Ranges are plain values, and codes with them are the vectors as they were."""
    vectors = unit(120, 16)
    quantized = quantize(vectors, "uint8", calibrate(vectors))
    stored = json.loads(json.dumps(dataclasses.asdict(quantized.ranges)))
    again = Quantized(
        np.frombuffer(quantized.codes.tobytes(), np.uint8).reshape(120, 16), "uint8", 16, Ranges(**stored)
    )
    np.testing.assert_array_equal(dequantize(again), dequantize(quantized))
    pickled = pickle.loads(pickle.dumps(quantized))
    np.testing.assert_array_equal(dequantize(pickled), dequantize(quantized))
    assert (np.asarray(quantized) == quantized.codes).all()
    assert len(quantized) == 120
    assert repr(quantized).startswith("Quantized(120 × 16, uint8, 16 bytes each, limit=")


@pytest.mark.parametrize(
    ("codes", "dtype", "dimensions", "problem"),
    [
        (np.zeros((2, 16), np.uint8), "int8", 16, "array of int8, not uint8"),
        (np.zeros((2, 16), np.uint8), "ubinary", 16, r"\(n, 2\) codes, not \(2, 16\)"),
        (np.zeros((2, 2), np.uint8), "ubinary", 12, "no multiple of 8"),
        (np.zeros(16, np.float16), "float16", 16, r"\(n, 16\) codes"),
        ([[0] * 16], "int8", 16, "not list"),
        (np.zeros((2, 16), np.float16), "float16", 0, "positive integer"),
    ],
)
def test_codes_that_are_not_what_they_are_said_to_be_are_refused(codes, dtype, dimensions, problem):
    with pytest.raises((ConfigurationError, DimensionsOutOfRangeError), match=problem):
        Quantized(codes, dtype, dimensions, wide_ranges(dtype, dimensions))


def test_queries_of_another_width_are_refused():
    with pytest.raises(ConfigurationError, match="Queries of 8 dimensions cannot be scored with rows of 16"):
        scores(unit(2, 8), quantize(unit(2, 16), "binary"))


def test_float16_vectors_are_taken():
    vectors = unit(5, 16).astype(np.float16)
    for dtype in DTYPES:
        np.testing.assert_array_equal(made(vectors, dtype).codes, made(vectors.astype(np.float32), dtype).codes)
