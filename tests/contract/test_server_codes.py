"""Codes that the server makes: what comes, what is caught, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import pickle
import warnings

import anyio
import numpy as np
import pytest
import voyageai

from mrlclient import (
    ConfigurationError,
    DimensionsMismatchError,
    DimensionsOutOfRangeError,
    Embedder,
    IncompatibleSpaceError,
    ModelSpec,
    MRLError,
    OpenAI,
    Provider,
    ProviderError,
    ResponseContractError,
    ServerBehaviorWarning,
    Voyage,
    catalogue,
)
from mrlclient.providers import Answer, Packing
from mrlclient.quantize import Quantized, Ranges, dequantize, quantize, scores
from mrlclient.search import Funnel
from mrlclient.testing.emulator import FAULTS, Fault, edits, emulator_vector
from mrlclient.testing.emulator import vectors as oracle

MODEL = "voyage:voyage-4"
TEXTS = ["a first text", "a second, longer text", "and a third"]
DTYPES = ("int8", "uint8", "binary", "ubinary")
#: The client, and what it embeds with.
WAYS = ("sync", "asyncio", "trio")


def voyage(emulator, name="voyage-4", **options):
    return Voyage(name, api_key=emulator.voyage_key, base_url=emulator.voyage_base_url, **options)


def server(emulator, **options):
    return Embedder(voyage(emulator), **{"dimensions": 512, "dtype": "int8", "quantization": "server", **options})


def embed(embedder, way, texts=TEXTS, **options):
    if way == "sync":
        return embedder.embed(texts, **options)
    return anyio.run(lambda: embedder.aembed(texts, **options), backend=way)


def codes(dtype, texts=TEXTS, dimensions=512, model=MODEL, input_type=None):
    """What the emulator makes of texts: not by the code that is tested."""
    rows = [emulator_vector(model, text, dimensions=dimensions, input_type=input_type) for text in texts]
    return oracle.quantize(np.stack(rows), dtype)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_codes_are_the_servers(dtype, way, emulator):
    with Embedder(voyage(emulator), dimensions=512) as embedder:
        result = embed(embedder, way, [*TEXTS, TEXTS[0]], dtype=dtype, quantization="server", input_type="document")
    (request,) = emulator.requests
    assert (request.body["output_dtype"], request.body["output_dimension"]) == (dtype, 512)
    assert len(request.body["input"]) == 3
    quantized = result.quantized
    assert (quantized.dtype, quantized.dimensions, quantized.quantization) == (dtype, 512, "server")
    assert (quantized.ranges, quantized.clipped, result.reduction, result.dimensions, len(result)) == (
        None,
        0,
        "server",
        512,
        4,
    )
    expected = codes(dtype, [*TEXTS, TEXTS[0]], input_type="document")
    assert quantized.codes.dtype == expected.dtype
    np.testing.assert_array_equal(quantized.codes, expected)
    assert repr(result).endswith(f"quantized={dtype})")
    assert repr(quantized).endswith("by the server)")
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.quantized.codes, expected)


def test_many_texts_come_in_order_over_several_requests(emulator):
    texts = [f"text {number}" for number in range(1500)]
    with server(emulator, dimensions=256) as embedder:
        result = embedder.embed(texts)
    assert sorted(len(request.body["input"]) for request in emulator.requests) == [500, 1000]
    np.testing.assert_array_equal(result.quantized.codes, codes("int8", texts, 256))


def test_floats_are_not_made_up(emulator):
    with server(emulator) as embedder:
        int8, bits = embedder.embed(TEXTS), embedder.embed(TEXTS, dtype="ubinary")
    for result in (int8, bits):
        for take in (lambda it: it.embeddings, lambda it: it[0], list, np.asarray, lambda it: it.at(512)):
            with pytest.raises(ConfigurationError, match="holds no floats: the server sent"):
                take(result)
    with pytest.raises(ConfigurationError, match="Nobody says which numbers the server's int8 codes stand for"):
        int8.at(256)
    with pytest.raises(ConfigurationError, match="holds no floats"):
        bits.at(256)
    with pytest.raises(DimensionsOutOfRangeError, match="holds 512 dimensions, not 1024"):
        bits.at(1024)


def test_vectors_that_may_not_be_compared_have_another_space(emulator):
    with Embedder(voyage(emulator), dimensions=512) as embedder:
        floats = embedder.embed(TEXTS, dtype="int8", ranges=Ranges(0.5, 512))
        int8, uint8, bits = (
            embedder.embed(TEXTS, dtype=dtype, quantization="server") for dtype in ("int8", "uint8", "ubinary")
        )
        wider = embedder.embed(TEXTS, dtype="int8", quantization="server", dimensions=1024)
    assert floats.space == bits.space == "voyage/4-series"
    assert int8.space == "voyage/voyage-4/int8/512"
    assert len({result.space for result in (floats, int8, uint8, wider)}) == 4


def test_what_the_codes_stand_for_is_not_guessed(emulator):
    with server(emulator) as embedder:
        int8 = embedder.embed(TEXTS).quantized
    vectors = codes("float")
    for use in (
        dequantize,
        lambda it: scores(vectors, it),
        lambda it: scores(it, it),
        lambda it: it.astype("uint8"),
        lambda it: it.at(256),
        lambda it: Funnel(vectors, quantized=it),
    ):
        with pytest.raises(ConfigurationError, match="Nobody says which numbers"):
            use(int8)
    assert int8.at(512) is int8
    with pytest.raises(ConfigurationError, match="does not say the ranges"):
        Quantized(int8.codes, "int8", 512, Ranges(1.0, 512), quantization="server")
    with pytest.raises(ConfigurationError, match="must be 'client' or 'server'"):
        Quantized(int8.codes, "int8", 512, quantization="voyage")


def test_bits_are_bits_whoever_made_them(emulator):
    """They are the signs of the vectors: cut, scored and told apart as those that are made here."""
    with Embedder(voyage(emulator), dimensions=[512, 256]) as embedder:
        result = embedder.embed(TEXTS, dtype="binary", quantization="server")
        floats = embedder.embed(TEXTS)
    quantized = result.quantized
    np.testing.assert_array_equal(quantized.codes, quantize(floats.embeddings, "binary").codes)
    np.testing.assert_array_equal(quantized.at(256).codes, codes("binary", dimensions=256))
    assert quantized.at(256).quantization == "server"
    np.testing.assert_array_equal(scores(quantized, quantized.astype("ubinary")).argmax(axis=1), [0, 1, 2])
    assert Funnel(floats, quantized=quantized).search(floats, 1).indices.ravel().tolist() == [0, 1, 2]


def test_who_takes_floats_gets_them(emulator):
    with server(emulator) as embedder:
        assert embedder.embed_documents(TEXTS).dtype == np.float32
        assert embedder.embed_query(TEXTS[0]).dtype == np.float32
        assert embedder.embed(TEXTS, dtype="float32").quantized is None
        made_here = embedder.embed(TEXTS, quantization="client", ranges=Ranges(0.5, 512))
        embedder.contract()
    assert made_here.quantized.quantization == "client"
    assert not any("output_dtype" in request.body for request in emulator.requests)


@pytest.mark.parametrize("way", ["sync", "asyncio"])
def test_a_stream(way, emulator):
    texts = [f"text {number}" for number in range(50)]

    async def every(embedder):
        return [chunk async for chunk in embedder.aembed_iter(texts, chunk_size=20)]

    with server(emulator, dtype="uint8") as embedder:
        chunks = list(embedder.embed_iter(texts, chunk_size=20)) if way == "sync" else asyncio.run(every(embedder))
    assert [len(chunk.result) for chunk in chunks] == [20, 20, 10]
    np.testing.assert_array_equal(
        np.concatenate([chunk.result.quantized.codes for chunk in chunks]), codes("uint8", texts)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [voyageai.Client, voyageai.AsyncClient])
def test_an_official_client_takes_the_type_along(make, dtype, emulator):
    provider = Voyage("voyage-4", client=make(emulator.voyage_key, base_url=emulator.voyage_base_url))
    with Embedder(provider, dimensions=512) as embedder:
        result = embed(embedder, "sync" if make is voyageai.Client else "asyncio", dtype=dtype, quantization="server")
    np.testing.assert_array_equal(result.quantized.codes, codes(dtype))


# --- what is caught


#: What they change is no less a code: a code is never NaN, infinite, or of a length.
FLOATS_ONLY = {
    "nan", "infinity", "minus_infinity", "denormal_vector", "norm_3", "big_endian", "not_normalized",
}  # fmt: skip
#: These change floats, and have a counterpart below.
REPLACED = {"zero_vector", "zero_vectors", "ignores_dimensions"}


def _bytes(change):
    def edit(embedding):
        if isinstance(embedding, str):
            return base64.b64encode(change(base64.b64decode(embedding))).decode("ascii")
        raise AssertionError("the request asks for base64")

    return edit


def _listed(change):
    """Lists of numbers, as from a server that ignores base64; the numbers are the answer's bytes, changed."""
    return lambda embedding: change(list(base64.b64decode(embedding)))


def _wrong(edit):
    return Fault(edit=edit, expects="contract_error")


def _ignores(*fields):
    return Fault(ignore_fields=fields, expects="contract_error")


CODE_FAULTS = {
    "ignores_output_dtype": _ignores("output_dtype"),
    "ignores_output_dtype_and_base64": _ignores("output_dtype", "encoding_format"),
    "ignores_dimensions": _ignores("output_dimension"),
    "ignores_all": _ignores("output_dtype", "output_dimension", "encoding_format"),
    "one_code_less": _wrong(edits.of_rows(_bytes(lambda raw: raw[:-1]))),
    "one_code_more": _wrong(edits.of_rows(_bytes(lambda raw: raw + b"\1"))),
    "one_code_less_in_one_row": _wrong(edits.of_row(_bytes(lambda raw: raw[:-1]))),
    "empty": _wrong(edits.of_rows(_bytes(lambda _: b""))),
    "base64_cut": _wrong(edits.of_rows(lambda text: text[:-3])),
    "zero_vectors": _wrong(edits.of_rows(_bytes(lambda raw: bytes(len(raw))))),
    "zero_vector": Fault(edit=edits.of_row(_bytes(lambda raw: bytes(len(raw)))), expects="bad_row"),
    "constant_vector": Fault(edit=edits.of_row(_bytes(lambda raw: b"\x80" * len(raw))), expects="bad_row"),
    "number_beyond": _wrong(edits.of_rows(_listed(lambda numbers: [300, *numbers[1:]]))),
    "number_below": _wrong(edits.of_rows(_listed(lambda numbers: [-129, *numbers[1:]]))),
    "number_between": _wrong(edits.of_rows(_listed(lambda numbers: [0.5, *numbers[1:]]))),
    "bits_as_numbers": _wrong(edits.of_rows(_listed(lambda numbers: [number & 1 for number in numbers] * 9))),
}
CASES = {
    name: fault
    for name, fault in {**FAULTS, **CODE_FAULTS}.items()
    if "voyage" in fault.providers and (name in CODE_FAULTS or name not in FLOATS_ONLY | REPLACED)
}


@pytest.mark.parametrize(("way", "dtype"), [("sync", "int8"), ("asyncio", "ubinary")])
@pytest.mark.parametrize("name", CASES)
def test_one_attempt(name, way, dtype, emulator):
    """The right codes, or an error of ours that says whether to try again."""
    fault = CASES[name]
    divided = name in ("html_413", "voyage_400_without_detail")
    emulator.faults.append(dataclasses.replace(fault, times=99 if divided else 1))
    with (
        Embedder(voyage(emulator, timeout=0.5), dimensions=512, max_attempts=1) as embedder,
        warnings.catch_warnings(record=True),
    ):
        warnings.simplefilter("always")
        if fault.expects == "ok":
            result = embed(embedder, way, dtype=dtype, quantization="server")
            np.testing.assert_array_equal(result.quantized.codes, codes(dtype))
            assert bool(result.notes) == (name == "ignores_base64")
        else:
            with pytest.raises(ProviderError) as caught:
                embed(embedder, way, dtype=dtype, quantization="server")
            error = caught.value
            assert error.retryable == (fault.expects != "permanent" and name != "renamed_model")
            assert isinstance(error, ResponseContractError) == (fault.expects in ("contract_error", "bad_row"))
            assert error.__cause__ is None
            assert error.__context__ is None
            assert not any(text in str(error) for text in [*TEXTS, emulator.voyage_key])
    assert len(emulator.requests) == 1 or divided


@pytest.mark.parametrize("dtype", ["uint8", "binary"])
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].expects in ("ok", "contract_error", "bad_row")])
def test_one_attempt_through_the_official_client(name, dtype, emulator):
    """No wrong code and no foreign error, whatever the client makes of it."""
    emulator.faults.append(CASES[name])
    provider = Voyage("voyage-4", client=voyageai.Client(emulator.voyage_key, base_url=emulator.voyage_base_url))
    with Embedder(provider, dimensions=512, max_attempts=1) as embedder, warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            result = embedder.embed(TEXTS, dtype=dtype, quantization="server")
        except MRLError:
            assert CASES[name].expects != "ok"
        else:
            np.testing.assert_array_equal(result.quantized.codes, codes(dtype))
    assert len(emulator.requests) == 1


def test_a_server_that_answers_floats_is_named(emulator):
    emulator.faults.append(dataclasses.replace(CODE_FAULTS["ignores_output_dtype"], times=9))
    with server(emulator) as embedder, pytest.raises(DimensionsMismatchError) as caught:
        embedder.embed(TEXTS)
    assert "2048 numbers a vector, of int8, where 512 dimensions of int8 are 512 of int8" in str(caught.value)
    assert "may have ignored the type or the width" in str(caught.value)
    assert len(emulator.requests) == 3


def test_codes_as_numbers_are_told_of(emulator):
    emulator.faults.append(FAULTS["ignores_base64"])
    with server(emulator) as embedder, pytest.warns(ServerBehaviorWarning, match="ignored encoding_format=base64"):
        result = embedder.embed(TEXTS)
    np.testing.assert_array_equal(result.quantized.codes, codes("int8"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", ["sync", "asyncio"])
def test_a_bad_row_is_asked_for_again_alone(way, dtype, emulator):
    emulator.faults.append(CODE_FAULTS["zero_vector"])
    with server(emulator, dtype=dtype) as embedder:
        result = embed(embedder, way)
    np.testing.assert_array_equal(result.quantized.codes, codes(dtype))
    assert [request.body["input"] for request in emulator.requests] == [TEXTS, TEXTS[1:2]]


def test_what_was_paid_for_before_a_failure_is_kept(emulator):
    spec = dataclasses.replace(catalogue().models[MODEL], max_inputs=2)
    emulator.faults.append(Fault(status=500, when=lambda request: "text 2" in request.body["input"]))
    texts = [f"text {number}" for number in range(4)]
    with (
        Embedder(voyage(emulator, spec), dimensions=512, max_attempts=1, max_concurrency=1) as embedder,
        pytest.raises(ProviderError) as caught,
    ):
        embedder.embed(texts, dtype="uint8", quantization="server")
    partial = caught.value.partial
    assert sorted(partial.errors) == [2, 3]
    np.testing.assert_array_equal(partial.quantized.codes[:2], codes("uint8", texts[:2]))
    assert not partial.quantized.codes[2:].any()


# --- what is refused


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"dtype": "float32"}, "needs a type that the server makes"),
        (
            {"dtype": "float16"},
            r"no server that sends float16 of voyage:voyage-4. It sends int8, uint8, binary, ubinary",
        ),
        ({"dtype": "int4"}, "dtype must be one of"),
        ({"quantization": "voyage"}, "quantization must be 'client' or 'server', not 'voyage'"),
        ({"ranges": Ranges(0.5, 512)}, "the server has its own"),
        ({"dimensions": 300}, "at 256, 512, 1024, 2048 dimensions, not at 300"),
        ({"dimensions": 296, "dtype": "binary"}, "at 256, 512, 1024, 2048 dimensions, not at 296"),
        ({"dimensions": [512, 256]}, "cannot serve the widths 512, 256"),
        ({"dimensions": [512, 100], "dtype": "binary"}, "take 96 or 104"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(options, problem, emulator):
    options = {"dtype": "int8", "quantization": "server", **options}
    with pytest.raises((ConfigurationError, DimensionsOutOfRangeError), match=problem):
        server(emulator, on_narrow="allow", **options)
    with Embedder(voyage(emulator), dimensions=512, on_narrow="allow") as embedder:
        for call in (embedder.embed, embedder.embed_iter, embedder.aembed_iter):
            with pytest.raises((ConfigurationError, DimensionsOutOfRangeError), match=problem):
                call(TEXTS, **options)
        with pytest.raises((ConfigurationError, DimensionsOutOfRangeError), match=problem):
            asyncio.run(embedder.aembed(TEXTS, **options))
    assert emulator.requests == []


def test_nothing_stands_for_a_text_that_failed(emulator):
    with server(emulator) as embedder, pytest.raises(ConfigurationError, match="on_error='return' take dtype"):
        embedder.embed(TEXTS, on_error="return")
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"cache": "memory:"}, "A cache keeps floats"), ({"fetch": "native"}, "fetch='native' is for a cache")],
)
def test_a_cache_keeps_floats_only(options, problem, emulator):
    with pytest.raises(ConfigurationError, match=problem):
        server(emulator, **options)
    with Embedder(voyage(emulator), dimensions=512, **options) as embedder:
        with pytest.raises(ConfigurationError, match=problem):
            embedder.embed(TEXTS, dtype="ubinary", quantization="server")
        assert emulator.requests == []
        assert embedder.embed(TEXTS, dtype="ubinary").quantized.quantization == "client"


def test_a_provider_that_has_no_such_types_is_refused(emulator):
    provider = OpenAI("text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    with (
        Embedder(provider) as embedder,
        pytest.raises(ConfigurationError, match=r"It sends floats only: leave quantization='server' out, and int8 is"),
    ):
        embedder.embed(TEXTS, dtype="int8", quantization="server")
    assert emulator.requests == []
    with pytest.raises(ConfigurationError, match="voyage:voyage-law-2"):
        Embedder(voyage(emulator, "voyage-law-2"), dtype="int8", quantization="server")
    spec = ModelSpec(provider="openai", name="mine", native_dimensions=8, matryoshka=False, server_dtypes=("int8",))
    with pytest.raises(ConfigurationError, match="openai cannot ask a server for int8: leave server_dtypes out"):
        OpenAI(spec, api_key="unused")


def test_a_declared_model_has_the_types_that_it_says(emulator):
    spec = dataclasses.replace(catalogue().models[MODEL], server_dtypes=("ubinary",))
    with Embedder(voyage(emulator, spec), dimensions=256) as embedder:
        result = embedder.embed(TEXTS, dtype="ubinary", quantization="server")
        np.testing.assert_array_equal(result.quantized.codes, codes("ubinary", dimensions=256))
        with pytest.raises(ConfigurationError, match="It sends ubinary:"):
            embedder.embed(TEXTS, dtype="int8", quantization="server")


class Acme(Provider):
    """A third party's: what it answers is in its own hands."""

    name = "acme"
    quantizes = True
    packing = Packing(max_inputs=2)

    def __init__(self, make):
        super().__init__(
            ModelSpec(
                provider="acme", name="nest", native_dimensions=16, matryoshka=False, server_dtypes=("int8", "binary")
            )
        )
        self.make = make

    def encode(self, batch):
        return batch

    def send(self, request, timeout=None):
        return self.make([float(text) for text in request.texts], request.resolution.dtype)

    async def asend(self, request, timeout=None):
        return self.send(request)

    def decode(self, reply, batch):
        return Answer(reply)

    def close(self):
        pass


def test_a_third_partys_server_may_have_types_too():
    def make(seeds, dtype):
        return np.array([np.arange(16) + seed for seed in seeds], dtype=np.int8)[:, : 16 if dtype == "int8" else 2]

    with Embedder(Acme(make), quantization="server", dtype="int8") as embedder:
        result = embedder.embed(["1", "2", "3", "1"])
        np.testing.assert_array_equal(result.quantized.codes[:, 0], [1, 2, 3, 1])
        assert embedder.embed(["1"], dtype="binary").quantized.codes.shape == (1, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda seeds, _: np.ones((len(seeds), 16), dtype=np.float32),
        lambda seeds, _: np.arange(16 * len(seeds), dtype=np.uint8).reshape(-1, 16),
        lambda seeds, _: np.arange(2 * len(seeds), dtype=np.int8).reshape(-1, 2),
        lambda seeds, _: np.arange(16 * len(seeds) + 16, dtype=np.int8).reshape(-1, 16),
        lambda seeds, _: np.full((len(seeds), 16), 5, dtype=np.int8),
    ],
)
def test_what_a_third_party_answers_is_checked(wrong):
    with (
        Embedder(Acme(wrong), quantization="server", dtype="int8", max_attempts=1) as embedder,
        pytest.raises(ResponseContractError),
    ):
        embedder.embed(["1", "2"])


@pytest.mark.parametrize("role", ["fallback", "endpoints", "query_model"])
def test_int8_of_two_models_is_not_mixed(role, emulator):
    other = voyage(emulator, "voyage-4-lite")
    options = {role: other if role == "query_model" else [other]}
    with pytest.raises(IncompatibleSpaceError, match="voyage-4-lite cannot stand in for voyage:voyage-4 in int8"):
        server(emulator, **options)
    with Embedder(voyage(emulator), dimensions=512, **options) as embedder:
        for input_type in ("query", "document"):
            with pytest.raises(IncompatibleSpaceError):
                embedder.embed(TEXTS, dtype="uint8", quantization="server", input_type=input_type)
    assert emulator.requests == []


@pytest.mark.parametrize(("dtype", "other"), [("int8", "voyage-4"), ("ubinary", "voyage-4-lite")])
def test_another_may_answer_where_the_codes_are_comparable(dtype, other, emulator):
    emulator.faults.append(Fault(status=500))
    with server(emulator, dtype=dtype, fallback=[voyage(emulator, other)]) as embedder:
        result = embedder.embed(TEXTS)
    np.testing.assert_array_equal(result.quantized.codes, codes(dtype, model=f"voyage:{other}"))
    assert [request.body.get("output_dtype") for request in emulator.requests] == [dtype, dtype]


# --- settings that travel


def test_it_travels_to_another_process(monkeypatch):
    monkeypatch.setenv("VOYAGE_API_KEY", "unused")
    with Embedder(MODEL, dimensions=512, dtype="int8", quantization="server") as embedder:
        values = {"model": MODEL, "dimensions": 512, "dtype": "int8", "quantization": "server"}
        assert embedder.to_dict() == values
        for other in (pickle.loads(pickle.dumps(embedder)), Embedder.from_dict(values)):
            assert other.to_dict() == values
            other.close()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"dimensions": 300}, "not at 300"),
        ({"dimensions": 512, "cache": "memory:"}, "A cache keeps floats"),
        ({"dimensions": 512, "ranges": {"limit": 0.5, "dimensions": 512}}, "the server has its own"),
        ({"model": "openai:text-embedding-3-small"}, "It sends floats only"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(values, problem):
    values = {"model": MODEL, "dtype": "int8", "quantization": "server", **values}
    with pytest.raises((ConfigurationError, DimensionsOutOfRangeError), match=problem):
        Embedder.from_dict(values)
