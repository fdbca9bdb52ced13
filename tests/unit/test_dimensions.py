import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import (
    ConfigurationError,
    DimensionsOutOfRangeError,
    Embedder,
    ModelSpec,
    NarrowDimensionsWarning,
    NotMatryoshkaError,
    catalogue,
)
from mrlclient.dimensions import check_widths, resolve
from mrlclient.models import find_model

SPECS = list(catalogue().models.values())
NESTED = [spec for spec in SPECS if spec.matryoshka]
FIXED = [spec for spec in SPECS if not spec.matryoshka]


@pytest.mark.parametrize("spec", NESTED, ids=lambda spec: spec.address)
def test_every_width_of_a_matryoshka_model_is_had(spec):
    for width in range(1, spec.native_dimensions + 1):
        found = resolve(spec, width)
        assert found.dimensions == width <= found.received <= spec.native_dimensions
        assert (found.reduction == "native") == (width == spec.native_dimensions)
        assert (found.reduction == "client") == (found.received > width)
        if spec.server_dimensions is None:
            assert (found.requested, found.received) == (None, spec.native_dimensions)
        else:
            assert found.requested == found.received
            assert spec.server_dimensions == "any" or found.requested in spec.server_dimensions
            # Never more than needed: no accepted width lies between what is wanted and what is asked for.
            if spec.server_dimensions != "any":
                assert not [d for d in spec.server_dimensions if width <= d < found.requested]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.address)
def test_codes_of_a_server_come_at_its_own_widths_only(spec):
    widths = spec.server_dimensions or (spec.native_dimensions,)
    for dtype in ("int8", "uint8", "binary", "ubinary"):
        if dtype not in spec.server_dtypes:
            with pytest.raises(ConfigurationError, match=f"no server that sends {dtype} of"):
                resolve(spec, None, dtype=dtype)
            continue
        for width in widths:
            assert resolve(spec, width, dtype=dtype) == replace(resolve(spec, width), dtype=dtype)
            with pytest.raises(DimensionsOutOfRangeError, match=f"not at {width - 8}, and"):
                resolve(spec, width - 8, dtype=dtype)


def test_a_server_of_any_width_sends_codes_at_any():
    spec = ModelSpec(
        provider="acme",
        name="nest",
        native_dimensions=64,
        matryoshka=True,
        server_dimensions="any",
        server_dtypes=("int8",),
    )
    assert resolve(spec, 9, dtype="int8").requested == 9
    cut_here = replace(spec, server_dimensions=None)
    assert resolve(cut_here, 64, dtype="int8").requested is None
    with pytest.raises(DimensionsOutOfRangeError, match="at 64 dimensions, not at 9"):
        resolve(cut_here, 9, dtype="int8")


@pytest.mark.parametrize("spec", FIXED, ids=lambda spec: spec.address)
def test_a_model_of_one_width_is_never_cut(spec):
    native = spec.native_dimensions
    assert resolve(spec, None) == resolve(spec, native)
    assert (resolve(spec, native).requested, resolve(spec, native).reduction) == (None, "native")
    for width in {1, 64, native - 1, native + 1} - {native}:
        with pytest.raises(NotMatryoshkaError) as caught:
            resolve(spec, width)
        message = str(caught.value)
        assert spec.name in message
        assert str(native) in message
        for other in NESTED:
            assert (other.name in message) == (other.provider == spec.provider)
        assert (caught.value.model, caught.value.dimensions) == (spec.address, width)
        assert caught.value.native_dimensions == native


@pytest.mark.parametrize(
    ("address", "width", "requested", "reduction"),
    [
        ("voyage:voyage-4", 300, 512, "client"),
        ("voyage:voyage-4", 512, 512, "server"),
        ("voyage:voyage-4", None, 2048, "native"),
        ("openai:text-embedding-3-large", 300, 300, "server"),
        ("openai:text-embedding-3-small", None, 1536, "native"),
        ("openai:text-embedding-ada-002", 1536, None, "native"),
        ("nomic:nomic-embed-text-v1.5", 256, None, "client"),
        ("wordllama:l2-supercat-256", 64, None, "client"),
    ],
)
def test_where_the_cut_is_made(address, width, requested, reduction):
    found = resolve(find_model(address), width)
    assert (found.requested, found.reduction) == (requested, reduction)


@pytest.mark.parametrize("wrong", [0, -1, True, False, 2.0, "64", b"6", np.True_, np.float32(8), 4096, [], [64, 0]])
def test_what_is_no_width(wrong):
    with pytest.raises(DimensionsOutOfRangeError) as caught:
        check_widths(find_model("openai:text-embedding-3-large"), wrong)
    assert caught.value.native_dimensions == 3072


@given(st.lists(st.integers(1, 256), min_size=1))
def test_several_widths_come_widest_first(widths):
    found = check_widths(find_model("wordllama:l2-supercat-256"), widths)
    assert found == sorted(set(widths), reverse=True)


def test_integers_of_numpy_are_integers():
    assert check_widths(find_model("wordllama:l2-supercat-256"), [np.int64(8), np.uint16(4)]) == [8, 4]


@pytest.mark.parametrize(
    ("address", "narrow", "smallest"),
    [("openai:text-embedding-3-large", 255, 256), ("nomic:nomic-embed-text-v1.5", 63, 64)],
)
def test_narrower_than_evaluated(address, narrow, smallest, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    with pytest.warns(NarrowDimensionsWarning, match=str(smallest)) as caught:
        Embedder(address, dimensions=narrow)
    assert all(f"{score:g}" in str(caught[0].message) for _, score in find_model(address).scores)
    assert caught[0].filename == __file__
    with pytest.raises(DimensionsOutOfRangeError, match=str(smallest)):
        Embedder(address, dimensions=narrow, on_narrow="error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Embedder(address, dimensions=narrow, on_narrow="allow")
        Embedder(address, dimensions=smallest)


def test_a_declared_model_without_evaluations_does_not_warn():
    spec = ModelSpec(provider="wordllama", name="mine", native_dimensions=256, matryoshka=True)
    Embedder(spec, dimensions=2)


def test_the_refusal_comes_before_the_missing_key():
    with pytest.raises(NotMatryoshkaError):
        Embedder("openai:text-embedding-ada-002", dimensions=256)
