"""The longest text that a model takes is sent, and one that is longer is refused before any request."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrlclient import Embedder, InputError, ModelSpec, Nomic, OpenAI, OpenAICompatible, Voyage, WordLlama
from mrlclient.testing import Emulator
from tests.conftest import TINY_NOMIC
from tests.contract.compatible_server import CompatibleServer
from tests.tokenizer_files import FILE, NAME, use_hub_cache, use_tiktoken_folder

LETTERS = ["word ", "Straße ", "tiếng ", "μία ", "слово ", "كلمة ", "שלום ", "शब्द ", "คำ", "東京", "도시 ", "１２３"]
EMOJI = ["👩\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈", "🇪🇺", "👍🏽"]
MARKS = ["e\u0301\u0323", "\u0301", "\u200d", "\ufeff", "\ufdfa", "\U0001d160", "ﬃ", "İ", "\u00ad"]
BLANKS = [blank * 17 for blank in " \n\t\r\u00a0\u2003\u3000"]
CONTROLS = ["\0", "\x1b[0m", "\x7f", "\u0085", "\u202e", "[CLS]", "[SEP]", "<s>", "<|endoftext|>"]
pieces = st.sampled_from(LETTERS + EMOJI + MARKS + BLANKS + CONTROLS) | st.characters(codec="utf-8")
#: What a text repeats.
units = st.lists(pieces, min_size=1, max_size=8).map("".join)
a_few = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tokens_of(provider, text):
    return provider.count_tokens([text])[0]


def longest(provider, unit):
    """A text with as many tokens as the model takes, or hardly fewer, and one with more.

    The first alone, where a word of any length has one token.
    """
    limit = provider.spec.max_input_tokens

    def text(times):
        return f"a {unit * times}."

    times = 1
    while tokens_of(provider, text(times)) <= limit:
        if times > limit:
            return [text(times)]
        times *= 2
    fits = bisect_right(range(times), limit, key=lambda times: tokens_of(provider, text(times))) - 1
    return [text(fits), text(fits + 1)]


def check(provider, unit, embedder):
    texts = longest(provider, unit)
    if len(texts) == 1:
        assert len(embedder.embed(texts).embeddings) == 1
        return
    assert tokens_of(provider, texts[0]) <= provider.spec.max_input_tokens < tokens_of(provider, texts[1])
    result = embedder.embed(texts, on_error="return")
    assert {index: type(error) for index, error in result.errors.items()} == {1: InputError}
    with pytest.raises(InputError, match=f"^Text 1 has {tokens_of(provider, texts[1])} tokens"):
        embedder.embed(texts)
    np.testing.assert_allclose(np.linalg.norm(result.embeddings[0]), 1, atol=1e-5)


def check_hosted(make, model, unit):
    """Against a server that counts as the client does."""
    counter = make(model, api_key="k")
    with Emulator(count_tokens=lambda text: tokens_of(counter, text)) as emulator:
        key, url = getattr(emulator, f"{make.name}_key"), getattr(emulator, f"{make.name}_base_url")
        provider = make(model, api_key=key, base_url=url)
        with Embedder(provider) as embedder:
            check(provider, unit, embedder)
        assert {request.status for request in emulator.requests} == {200}


@given(unit=units)
@a_few
def test_openai(unit, tmp_path_factory):
    pytest.importorskip("tiktoken")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_tiktoken_folder(folder := tmp_path_factory.mktemp("tiktoken"), monkeypatch)
        (folder / NAME).write_bytes(FILE)
        check_hosted(OpenAI, "text-embedding-3-small", unit)


@given(unit=units)
@a_few
def test_voyage(unit, tmp_path_factory):
    pytest.importorskip("tokenizers")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_hub_cache(tmp_path_factory.mktemp("hub"), "voyageai/voyage-2", monkeypatch)
        check_hosted(Voyage, "voyage-2", unit)


@given(unit=units)
@a_few
def test_a_declared_model_on_a_server_that_cuts_without_a_word(unit, tmp_path_factory):
    pytest.importorskip("tokenizers")
    spec = ModelSpec(
        provider="openai-compatible",
        name="embed",
        native_dimensions=256,
        matryoshka=True,
        max_input_tokens=512,
        tokenizer="hub:me/mine",
    )
    with pytest.MonkeyPatch.context() as monkeypatch, CompatibleServer() as server:
        use_hub_cache(tmp_path_factory.mktemp("hub"), "me/mine", monkeypatch)
        provider = OpenAICompatible(spec, base_url=server.url, server="ollama")
        # Warnings are errors here: of none it is said that it may have been cut.
        with Embedder(provider) as embedder:
            check(provider, unit, embedder)
        assert all(tokens_of(provider, text) <= 512 for request in server.requests for text in request["input"])


@given(unit=units)
@a_few
def test_nomic(unit):
    pytest.importorskip("onnxruntime")
    spec = dataclasses.replace(Nomic(model_path=TINY_NOMIC).spec, max_input_tokens=512)
    provider = Nomic(spec, model_path=TINY_NOMIC)
    with Embedder(provider) as embedder:
        check(_Prompted(provider), unit, embedder)


class _Prompted:
    """Counts a text as the embedder sends it."""

    def __init__(self, provider):
        self.provider, self.spec = provider, provider.spec

    def count_tokens(self, texts):
        return self.provider.count_tokens([self.spec.prompts["document"] + text for text in texts])


@pytest.fixture(scope="module")
def wordllama():
    pytest.importorskip("tokenizers")
    with Embedder(WordLlama()) as embedder:
        yield embedder


@given(unit=units)
@a_few
def test_wordllama_takes_texts_of_any_length(wordllama, unit):
    result = wordllama.embed([f"a {unit * 1_000}."])
    assert result.usage.tokens > 0
    np.testing.assert_allclose(np.linalg.norm(result.embeddings), 1, atol=1e-5)
