"""Embeddings in fewer bytes: what a result holds then, and what is refused before anything is sent."""

from __future__ import annotations

import pickle
from dataclasses import replace

import anyio
import httpx2
import numpy as np
import pytest

from mrlclient import (
    ClippingWarning,
    ConfigurationError,
    DimensionsOutOfRangeError,
    Embedder,
    OpenAI,
    ProviderError,
    Voyage,
    catalogue,
)
from mrlclient.integrations._index_vectors import IndexVectors
from mrlclient.quantize import Ranges, calibrate, dequantize, quantize
from mrlclient.testing.emulator import Fault

TEXTS = [f"text {number}" for number in range(120)]
RANGES = Ranges(0.9, 256)


def hosted(emulator, **options):
    provider = OpenAI("text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    return Embedder(provider, **{"dimensions": 256, "on_narrow": "allow", "max_attempts": 1, **options})


@pytest.fixture
def embedder(emulator):
    with hosted(emulator) as embedder:
        yield embedder


def same(quantized, expected):
    np.testing.assert_array_equal(quantized.codes, expected.codes)
    assert (quantized.dtype, quantized.dimensions, quantized.ranges, quantized.clipped) == (
        expected.dtype,
        expected.dimensions,
        expected.ranges,
        expected.clipped,
    )


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("way", ["sync", "asyncio", "trio"])
def test_codes_stand_beside_the_floats(way, dtype, embedder):
    ranges = RANGES if dtype in ("int8", "uint8") else None
    if way == "sync":
        result = embedder.embed(TEXTS[:3], dtype=dtype, ranges=ranges)
    else:
        result = anyio.run(lambda: embedder.aembed(TEXTS[:3], dtype=dtype, ranges=ranges), backend=way)
    floats = embedder.embed(TEXTS[:3])
    assert floats.quantized is None
    assert result.embeddings.dtype == np.float32
    np.testing.assert_allclose(result.embeddings, floats.embeddings, atol=1e-6)
    same(result.quantized, quantize(result.embeddings, dtype, ranges))
    assert f"quantized={dtype}" in repr(result)
    same(pickle.loads(pickle.dumps(result)).quantized, result.quantized)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_ranges_are_found_with_the_texts_and_serve_the_next_call(dtype, embedder):
    documents = embedder.embed(TEXTS, dtype=dtype)
    assert documents.quantized.ranges == calibrate(documents.embeddings)
    query = embedder.embed(["a question"], dtype=dtype, ranges=documents.quantized.ranges)
    assert np.abs(dequantize(query.quantized) - query.embeddings).max() < documents.quantized.ranges.limit / 250


def test_of_several_widths_the_widest_is_quantized(embedder):
    result = embedder.embed(TEXTS[:2], dimensions=[64, 128], dtype="binary")
    assert (result.quantized.dimensions, result.at(64).shape) == (128, (2, 64))


def test_an_embedder_has_a_type_and_a_call_another(emulator):
    with hosted(emulator, dtype="int8", ranges=RANGES) as embedder:
        assert embedder.embed(TEXTS[:1]).quantized.dtype == "int8"
        assert embedder.embed(TEXTS[:1], dtype="uint8").quantized.ranges == RANGES
        assert embedder.embed(TEXTS[:1], dtype="binary").quantized.ranges is None
        assert embedder.embed(TEXTS[:1], dtype="float32").quantized is None
        assert embedder.embed(TEXTS[:1], ranges=Ranges(0.8, 256)).quantized.ranges == Ranges(0.8, 256)
        # These two are floats, whatever the type: a search by floats loses less.
        assert embedder.embed_documents(TEXTS[:1]).dtype == np.float32
        assert embedder.embed_query(TEXTS[0]).dtype == np.float32
        with pytest.raises(ConfigurationError, match="calibrated at 256 dimensions, and the vectors have 64"):
            embedder.embed(TEXTS[:1], dimensions=64)


@pytest.mark.parametrize("way", ["sync", "asyncio"])
def test_a_stream_has_one_range_for_all_chunks(way, embedder):
    async def all_chunks():
        return [chunk async for chunk in embedder.aembed_iter(TEXTS, chunk_size=50, dtype="int8", ranges=RANGES)]

    if way == "sync":
        chunks = list(embedder.embed_iter(TEXTS, chunk_size=50, dtype="int8", ranges=RANGES))
    else:
        chunks = anyio.run(all_chunks, backend=way)
    assert [len(chunk.result.quantized) for chunk in chunks] == [50, 50, 20]
    for chunk in chunks:
        same(chunk.result.quantized, quantize(chunk.embeddings, "int8", RANGES))


def test_a_stream_of_floats_is_as_it_was(embedder):
    assert all(chunk.result.quantized is None for chunk in embedder.embed_iter(TEXTS))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"dtype": "int8"}, "3 different texts are too few"),
        ({"dtype": "int4"}, "dtype must be one of"),
        ({"dtype": "float32", "ranges": RANGES}, "float32 has no ranges"),
        ({"ranges": RANGES}, "float32 has no ranges"),
        ({"dtype": "uint8", "ranges": (-1, 1)}, "not tuple"),
        ({"dtype": "int8", "ranges": Ranges(1, 128)}, "calibrated at 128 dimensions"),
        ({"dtype": "binary", "dimensions": 100}, "take 96 or 104"),
        ({"dtype": "binary", "on_error": "return"}, "on_error='return' take dtype='float32'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(options, problem, embedder, emulator):
    with pytest.raises((ConfigurationError, DimensionsOutOfRangeError), match=problem):
        embedder.embed(["a", "b", "c"] * 40, **options)
    with pytest.raises((ConfigurationError, DimensionsOutOfRangeError)):
        embedder.embed_iter(["a", "b", "c"], **options)
    assert emulator.requests == []


def test_a_stream_needs_its_ranges_at_once(embedder, emulator):
    for make in (embedder.embed_iter, embedder.aembed_iter):
        with pytest.raises(ConfigurationError, match="A stream of int8 needs ranges"):
            make(TEXTS, dtype="int8")
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"dtype": "int4"}, "dtype must be one of"),
        ({"dtype": "binary", "dimensions": 12}, "take 8 or 16"),
        ({"ranges": RANGES}, "float32 has no ranges"),
        ({"dtype": "int8", "ranges": Ranges(1, 64)}, "calibrated at 64 dimensions"),
    ],
)
def test_an_embedder_that_cannot_be_is_refused(options, problem, emulator):
    with pytest.raises((ConfigurationError, DimensionsOutOfRangeError), match=problem):
        hosted(emulator, **options)


@pytest.mark.parametrize("way", ["sync", "stream"])
def test_what_is_outside_the_ranges_is_said_where_the_caller_is(way, embedder):
    ranges = Ranges(0.01, 256)

    def embed():
        if way == "sync":
            return embedder.embed(TEXTS[:3], dtype="int8", ranges=ranges)
        return next(embedder.embed_iter(TEXTS[:3], dtype="int8", ranges=ranges)).result

    with pytest.warns(ClippingWarning, match=r"of 768 numbers are outside ±0.01") as caught:
        result = embed()
    assert caught[0].filename == __file__
    assert result.quantized.clipped == np.count_nonzero(np.abs(result.embeddings) > 0.01 * 127.5 / 127)


def test_what_was_got_before_a_failure_is_floats(emulator):
    spec = replace(catalogue().models["openai:text-embedding-3-small"], max_inputs=2)
    provider = OpenAI(spec, api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    emulator.faults.append(Fault(status=500, when=lambda request: "text 2" in request.body["input"]))
    with (
        Embedder(provider, max_attempts=1, max_concurrency=1, dtype="binary") as embedder,
        pytest.raises(ProviderError) as caught,
    ):
        embedder.embed(TEXTS[:4])
    assert caught.value.partial.embeddings.shape == (4, 1536)
    assert caught.value.partial.quantized is None


def test_different_texts_of_equal_vectors_are_no_sample_and_are_not_lost():
    """A mean of two words' vectors is the same in either order; the vectors are in the error."""
    words = ["cat", "dog", "sea", "sun", "car", "man", "day", "way", "war", "law", "art"]
    texts = [f"{one} {other}" for one in words for other in words if one != other]
    with (
        Embedder() as embedder,
        pytest.raises(ConfigurationError, match=r"^55 different vectors are too few") as caught,
    ):
        embedder.embed(texts, dtype="int8")
    assert caught.value.partial.embeddings.shape == (110, 256)


def test_the_cache_keeps_floats_whatever_was_asked_for(emulator):
    """What one type paid for serves all of them, to the last bit."""
    with hosted(emulator, cache="memory:", dtype="binary") as embedder:
        first = embedder.embed(TEXTS)
        asked = len(emulator.requests)
        for dtype in ("float32", "float16", "int8", "ubinary"):
            result = embedder.embed(TEXTS, dtype=dtype)
            np.testing.assert_array_equal(result.embeddings, first.embeddings)
        assert len(emulator.requests) == asked
        assert result.usage.cached_texts == len(TEXTS)


@pytest.mark.parametrize("dtype", ["binary", "ubinary"])
def test_bits_are_those_that_voyage_sends(dtype, emulator):
    """The server's own `output_dtype`, and the floats of the same texts quantised here."""
    key = {"Authorization": f"Bearer {emulator.voyage_key}"}
    body = {"input": TEXTS[:4], "model": "voyage-4", "output_dtype": dtype, "output_dimension": 512}
    answer = httpx2.post(f"{emulator.voyage_base_url}/embeddings", json=body, headers=key)
    provider = Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)
    with Embedder(provider, dimensions=512, dtype=dtype) as embedder:
        codes = embedder.embed(TEXTS[:4]).quantized.codes
    assert codes.shape == (4, 64)
    np.testing.assert_array_equal(codes, [each["embedding"] for each in answer.json()["data"]])


def test_it_travels_to_another_process(emulator, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    options = {"dimensions": 256, "on_narrow": "allow", "dtype": "int8", "ranges": RANGES}
    with Embedder("openai:text-embedding-3-small", **options) as embedder:
        assert embedder.to_dict()["ranges"] == {"limit": 0.9, "dimensions": 256}
        other = pickle.loads(pickle.dumps(embedder))
        assert other.to_dict() == embedder.to_dict()
        other.close()


def test_an_index_takes_floats_from_any_embedder(emulator):
    """What needs ranges, or whole bytes, does not get in the way of those who take floats."""
    with hosted(emulator, dtype="int8") as embedder:
        vectors = IndexVectors(embedder, embedder.contract())
        (chunk,) = vectors.batches(TEXTS[:3])
        assert chunk.result.quantized is None
        assert vectors.query(TEXTS[0]).dtype == np.float32
