"""The emulator's vectors: the same everywhere, nested where the model is, near where texts share words."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mrlclient.errors import UnknownModelError
from mrlclient.models import catalogue
from mrlclient.testing.emulator import emulator_vector
from mrlclient.testing.emulator.limits import count_tokens, truncate_text
from mrlclient.testing.emulator.vectors import quantize

OPENAI = "openai:text-embedding-3-small"
VOYAGE = "voyage:voyage-4"
SERIES_4 = ("voyage:voyage-4-large", "voyage:voyage-4", "voyage:voyage-4-lite")
HOSTED = [spec for spec in catalogue().models.values() if spec.provider in ("openai", "voyage")]
TEXTS = ["the cat sat on the mat", "the cat lay on the mat", "stocks fell in late trading", "", "東京 🙂", "\ud800"]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("spec", HOSTED, ids=lambda spec: spec.address)
def test_every_model_gives_unit_vectors_of_its_width(spec):
    rows = np.stack([emulator_vector(spec.address, text) for text in TEXTS])
    assert (rows.shape, rows.dtype) == ((len(TEXTS), spec.native_dimensions), np.float32)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_only_models_of_the_catalogue():
    with pytest.raises(UnknownModelError):
        emulator_vector("openai:no-such-model", "a")


def test_the_same_in_every_process():
    code = (
        "import sys, hashlib; from mrlclient.testing.emulator import emulator_vector as v;"
        f"rows = [v(a, t, dimensions=256).tobytes() for a in ({OPENAI!r}, {VOYAGE!r}) for t in ('a b', 'ż')];"
        "print(hashlib.sha256(b''.join(rows)).hexdigest())"
    )
    root = str(Path(__file__).parents[2])
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "random")
    }
    assert len(said) == 1
    # The cache does not change them, and nobody can change the cache.
    assert emulator_vector(OPENAI, "a b") is not None
    first = emulator_vector(OPENAI, "a b")
    first[:] = 0
    assert emulator_vector(OPENAI, "a b").any()


def test_near_texts_are_near_at_every_width():
    for address, width in itertools.product((OPENAI, VOYAGE), (256, 512, 1024)):
        cat, other_cat, stocks = (emulator_vector(address, text, dimensions=width) for text in TEXTS[:3])
        assert cat @ other_cat > cat @ stocks + 0.3


@pytest.mark.parametrize(("one", "other"), [("a b", "b a"), ("Cat", "cat"), ("é", "e\u0301"), ("a", "a ")])
def test_no_two_texts_share_a_vector(one, other):
    assert np.abs(emulator_vector(OPENAI, one) - emulator_vector(OPENAI, other)).max() > 1e-3


@pytest.mark.parametrize("width", [1, 2, 8, 256, 512, 1024, 1535])
def test_an_openai_cut_is_the_renormalised_prefix_only_to_1e_4(width):
    cuts = np.stack([emulator_vector(OPENAI, text, dimensions=width) for text in TEXTS])
    expected = unit(np.stack([emulator_vector(OPENAI, text) for text in TEXTS])[:, :width])
    difference = np.abs(cuts - expected).max()
    assert difference <= 1e-4
    if width > 1:
        assert difference > 1e-5
    assert np.allclose(np.linalg.norm(cuts, axis=1), 1, atol=1e-6)


def test_an_openai_cut_is_far_from_the_raw_prefix():
    raw = emulator_vector(OPENAI, TEXTS[0])[:256]
    assert np.abs(emulator_vector(OPENAI, TEXTS[0], dimensions=256) - raw).max() > 0.01


@pytest.mark.parametrize("width", [256, 512, 1024, 2048])
def test_a_voyage_cut_is_the_renormalised_prefix(width):
    for text in TEXTS:
        expected = unit(emulator_vector(VOYAGE, text)[:width])
        assert np.allclose(emulator_vector(VOYAGE, text, dimensions=width), expected, atol=1e-7)


@pytest.mark.parametrize("width", [256, 1024, 2048])
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(SERIES_4, 2)))
def test_the_4_series_shares_a_space(one, other, width):
    cosines = [
        emulator_vector(one, text, dimensions=width) @ emulator_vector(other, text, dimensions=width) for text in TEXTS
    ]
    assert np.mean(cosines) == pytest.approx(0.95, abs=0.015)
    assert max(cosines) < 0.99
    across = emulator_vector(one, TEXTS[0], dimensions=width) @ emulator_vector(other, TEXTS[2], dimensions=width)
    assert across < 0.5


def test_other_models_share_nothing():
    pairs = (
        ("voyage:voyage-4", "voyage:voyage-3.5"),
        ("openai:text-embedding-3-small", "openai:text-embedding-ada-002"),
    )
    for one, other in pairs:
        assert abs(emulator_vector(one, TEXTS[0]) @ emulator_vector(other, TEXTS[0])) < 0.2


def test_an_input_type_is_its_prompt():
    query = emulator_vector(VOYAGE, "cats purr", input_type="query")
    document = emulator_vector(VOYAGE, "cats purr", input_type="document")
    prompted = emulator_vector(VOYAGE, "Represent the query for retrieving supporting documents: cats purr")
    assert np.array_equal(query, prompted)
    assert np.array_equal(document, emulator_vector(VOYAGE, "Represent the document for retrieval: cats purr"))
    assert 0.8 < query @ document < 0.99
    assert query @ document > query @ emulator_vector(VOYAGE, "stocks fell", input_type="document") + 0.3


def neighbours_kept(address, width):
    """How many of the 5 nearest neighbours at full width are among the 5 nearest at `width`."""
    words = np.random.default_rng(3).integers(0, 60, (120, 6))
    rows = np.stack([emulator_vector(address, " ".join(f"w{word}" for word in text)) for text in words])
    nearest = [np.argsort(-(cut @ cut.T), axis=1)[:, 1:6] for cut in (rows, unit(rows[:, :width]))]
    return np.mean([len(set(full) & set(cut)) / 5 for full, cut in zip(*nearest, strict=True)])


def test_a_prefix_keeps_more_neighbours_in_a_matryoshka_model():
    assert neighbours_kept(OPENAI, 64) > neighbours_kept("openai:text-embedding-ada-002", 64) + 0.1


def test_quantised_types():
    row = np.array([[0.1, -0.2, 0.0, 0.3, -0.1, -0.1, 0.2, 0.4, *[-1.0] * 8, *[1.0] * 8]], dtype=np.float32)
    bits = [0b10010011, 0, 255]
    assert quantize(row, "ubinary").tolist() == [bits]
    assert quantize(row, "binary").tolist() == [[bit - 128 for bit in bits]]
    assert quantize(row, "float").dtype == np.dtype("<f4")
    for dtype, offset in (("int8", 0), ("uint8", 128)):
        numbers = quantize(row, dtype)
        assert numbers.dtype == dtype
        assert numbers.astype(int).tolist()[0][:2] == [25 + offset, -51 + offset]
        assert set((numbers.astype(int) - offset)[0, 8:]) == {-128, 127}


@pytest.mark.parametrize(
    ("text", "tokens", "kept"),
    [("abcdefgh", 1, "abcd"), ("abcd", 1, "abcd"), ("abcé", 1, "abc"), ("ab東", 1, "ab"), ("\ud800ab", 1, "\ud800a")],
)
def test_truncation_keeps_whole_characters(text, tokens, kept):
    assert truncate_text(text, tokens) == kept
    assert count_tokens(kept) <= tokens
