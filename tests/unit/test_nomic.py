"""The real loading and pooling code on a small random-weight model of the true architecture."""

import dataclasses
import hashlib
import itertools
import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import ConfigurationError, Embedder, InputError, MissingExtraError, Nomic
from mrlclient.providers.nomic import rectangles
from mrlclient.vectors import truncate_dimensions
from tests.conftest import TINY_NOMIC

GOLDEN = json.loads((TINY_NOMIC / "golden.json").read_text("utf-8"))


def prompted(text):
    prompt = next(
        p for p in ("search_query: ", "search_document: ", "clustering: ", "classification: ") if text.startswith(p)
    )
    return prompt, text.removeprefix(prompt)


ROLES = {
    "search_query: ": {"input_type": "query"},
    "search_document: ": {"input_type": "document"},
    "clustering: ": {"task": "clustering"},
    "classification: ": {"task": "classification"},
}


@pytest.fixture(scope="module")
def embedder():
    with Embedder(Nomic(model_path=TINY_NOMIC), truncate_input=True) as embedder:
        yield embedder


@pytest.mark.parametrize("width", [768, 512, 256, 128, 64])
def test_equals_the_reference(embedder, width):
    """sentence-transformers' mean pooling, layer norm over 768, slice, L2."""
    compared = 0
    for text, tokens, row in zip(GOLDEN["texts"], GOLDEN["tokens"], GOLDEN["dims"][str(width)], strict=True):
        prompt, bare = prompted(text)
        if not bare.strip():
            continue
        result = embedder.embed([bare], **ROLES[prompt], dimensions=width)
        np.testing.assert_allclose(result[0][: len(row)], row, atol=1e-5)
        assert result.usage.tokens == tokens
        compared += 1
    assert compared >= 5


def test_a_batch_equals_its_texts_one_by_one_and_keeps_the_order(embedder):
    texts = [f"refunds take {n} business days. " * n for n in (40, 1, 7, 90, 2, 33)] * 20
    batch = embedder.embed(texts)
    for i in (0, 1, 2, 3, 4, 5, 117):
        np.testing.assert_allclose(batch[i], embedder.embed([texts[i]])[0], atol=1e-5)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=50), st.integers(1, 300))
def test_rectangles_hold_each_row_once_within_the_bound(lengths, bound):
    lengths = np.array(lengths)
    parts = list(rectangles(lengths, bound))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    assert all(len(part) == 1 or lengths[part].max() * len(part) <= bound for part in parts)
    # Of like length: no part reaches into another. And none would have taken the next row as well.
    for part, following in itertools.pairwise(parts):
        assert lengths[part].max() <= lengths[following].min()
        assert lengths[following[0]] * (len(part) + 1) > bound


def test_lengths_that_bytes_do_not_tell_are_padded_by_tokens(embedder):
    """As many bytes, but one token or a hundred: in several rectangles, and back in order."""
    texts = [text for n in range(40) for text in (f"the{n} " * 25, "x" * 100 + str(n))]
    batch = embedder.embed(texts)
    for i in (0, 1, 38, 39, 78, 79):
        alone = embedder.embed([texts[i]])
        np.testing.assert_allclose(batch[i], alone[0], atol=1e-5)
    assert batch.usage.tokens == sum(embedder.embed([text]).usage.tokens for text in texts)


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2"])
def test_threads_that_are_no_number_of_threads(threads):
    with pytest.raises(ConfigurationError, match="threads must be a positive whole number"):
        Nomic(model_path=TINY_NOMIC, threads=threads)


def test_threads_go_along_to_another_process_and_change_nothing(embedder):
    provider = pickle.loads(pickle.dumps(Nomic(model_path=TINY_NOMIC, threads=2)))
    assert provider._threads == 2
    with Embedder(provider) as other:
        np.testing.assert_allclose(other.embed_query("a"), embedder.embed_query("a"), atol=1e-6)


def test_differs_from_a_slice_without_the_layer_norm(embedder):
    plain = Embedder(Nomic(dataclasses.replace(embedder.spec, recipe="slice_l2"), model_path=TINY_NOMIC))
    text = ["who wrote the origin of species?"]
    right, wrong = embedder.embed(text, dimensions=256), plain.embed(text, dimensions=256)
    assert np.abs(right.embeddings - wrong.embeddings).max() > 1e-3
    # The raw full vector can still be put right afterwards, an already cut one cannot.
    raw = plain.embed(text)
    np.testing.assert_allclose(truncate_dimensions(raw.embeddings, 256, center=True), right.embeddings, atol=1e-5)
    assert np.abs(truncate_dimensions(wrong.embeddings, 256, center=True) - right.embeddings).max() > 3e-4


def test_an_over_long_text_is_refused_or_cut():
    long = "fox " * 2100
    with (
        Embedder(Nomic(model_path=TINY_NOMIC)) as strict,
        pytest.raises(InputError, match=r"2104 tokens|21\d\d tokens") as caught,
    ):
        strict.embed(["short", long])
    assert caught.value.index == 1
    assert "fox" not in str(caught.value)
    with Embedder(Nomic(model_path=TINY_NOMIC), truncate_input=True) as cutting:
        result = cutting.embed([long])
        assert result.usage.tokens == 2048
        # What is cut is the end: one word more or less beyond the limit makes no difference.
        np.testing.assert_allclose(result.embeddings, cutting.embed([long + "fox"]).embeddings, atol=1e-6)


def test_a_long_text_within_the_limit_is_taken():
    text = "a" * 2500  # more bytes than the limit has tokens, but one word
    with Embedder(Nomic(model_path=TINY_NOMIC)) as embedder:
        assert embedder.embed([text]).usage.tokens < 100


def test_another_onnx_file():
    provider = Nomic(model_path=TINY_NOMIC, onnx_file="onnx/model_quantized.onnx", threads=1)
    with Embedder(provider) as embedder, Embedder(Nomic(model_path=TINY_NOMIC)) as exact:
        cosine = embedder.embed_query("what is t-sne?") @ exact.embed_query("what is t-sne?")
    assert 0.98 < cosine < 1 - 1e-6


def test_a_folder_that_lacks_a_file(tmp_path):
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json"):
        Nomic(model_path=tmp_path)


class Hub:
    """A hub cache that holds the small model, as huggingface-hub lays it out."""

    def __init__(self, root: Path, repository: str, revision: str):
        folder = root / "hub" / f"models--{repository.replace('/', '--')}"
        self.snapshot = folder / "snapshots" / revision
        shutil.copytree(TINY_NOMIC, self.snapshot)
        (folder / "refs").mkdir()


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def spec_with_checksums(**checksums):
    return dataclasses.replace(Nomic(model_path=TINY_NOMIC).spec, checksums=checksums)


def test_the_hub_cache_is_used_and_checked(offline):
    spec = Nomic(model_path=TINY_NOMIC).spec
    hub = Hub(offline, spec.repository, spec.revision)
    sums = {
        file: hashlib.sha256((hub.snapshot / file).read_bytes()).hexdigest()
        for file in ("tokenizer.json", "onnx/model.onnx")
    }
    with Embedder(Nomic(spec_with_checksums(**sums))) as embedder, Embedder(Nomic(model_path=TINY_NOMIC)) as local:
        np.testing.assert_array_equal(embedder.embed_query("a"), local.embed_query("a"))
    with Embedder(Nomic(spec)) as embedder, pytest.raises(ConfigurationError, match="SHA-256"):
        embedder.embed_query("a")  # the small model is not what the catalogue's checksum is of


def test_neither_folder_nor_hub(offline):
    with (
        Embedder("nomic:nomic-embed-text-v1.5") as embedder,
        pytest.raises(ConfigurationError, match="model_path=") as caught,
    ):
        embedder.embed_query("a")
    assert embedder.spec.revision in str(caught.value)
    assert "HF_HUB_OFFLINE" in str(caught.value)


def test_v1_is_pinned_to_no_revision():
    with Embedder("nomic:nomic-embed-text-v1") as embedder, pytest.raises(ConfigurationError, match="revision="):
        embedder.embed_query("a")


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_a_missing_package_names_the_pip_line(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with Embedder(Nomic(model_path=TINY_NOMIC)) as embedder, pytest.raises(MissingExtraError) as caught:
        embedder.embed_query("a")
    assert "pip install 'mrlclient[nomic]'" in str(caught.value)
    assert caught.value.extra == "nomic"


def test_usearch_before_onnxruntime_is_refused(monkeypatch):
    """Together, in this order, they crash the process: an error that says so is all there is to be had."""
    monkeypatch.setitem(sys.modules, "usearch.compiled", object())
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with pytest.raises(ConfigurationError, match="import onnxruntime"):
        Nomic(model_path=TINY_NOMIC).load()
