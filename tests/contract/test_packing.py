"""Batches against servers that count tokens as real tokenizers do: differently for each script."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrlclient import ConfigurationError, Embedder, InputError, Limits, OpenAI, Voyage
from mrlclient.testing import Emulator


def by_script(text: str) -> int:
    """A token for 4 characters of English, and for 2 of Greek."""
    return -(-len(text) // (4 if text.isascii() else 2))


def digits(text: str) -> int:
    """A token a character, as some tokenizers have it for digits."""
    return len(text)


def openai(emulator, **options):
    return OpenAI("text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url, **options)


def voyage(emulator, **options):
    return Voyage("voyage-4-large", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url, **options)


def texts_of(sentence, count, length):
    return [f"{i} {sentence * length}"[:length] for i in range(count)]


ENGLISH = texts_of("an ordinary sentence of some words. ", 480, 3_000)
GREEK = texts_of("μια συνηθισμένη πρόταση με μερικές λέξεις. ", 240, 3_000)
NUMBERS = texts_of("0123456789", 240, 3_000)


@pytest.mark.parametrize(
    ("make", "texts", "count", "exact", "at_first", "refused"),
    [
        # 360,000 or 720,000 tokens, of which a request may have 300,000; and 120,000 for Voyage's model.
        (openai, ENGLISH, by_script, 2, 3, 0),
        (voyage, GREEK, by_script, 3, 10, 0),
        (openai, NUMBERS, digits, 3, 9, 3),
        (voyage, ENGLISH, by_script, 3, 6, 0),
        (voyage, NUMBERS, digits, 6, 18, 8),
    ],
)
def test_few_requests_and_nothing_lost(make, texts, count, exact, at_first, refused):
    limits = Limits(tokens_per_minute=math.inf)
    with Emulator(count_tokens=count) as emulator, Embedder(make(emulator), dimensions=512, limits=limits) as embedder:
        for most, bad in ((at_first, refused), (exact + 1, 0)):
            emulator.clear()
            result = embedder.embed(texts)
            assert not result.errors
            statuses = [request.status for request in emulator.requests]
            sent = [text for request in emulator.requests if request.status == 200 for text in request.body["input"]]
            assert sorted(sent) == sorted(texts)
            assert exact <= statuses.count(200)
            assert len(statuses) <= most
            assert statuses.count(400) <= bad


def test_endpoints_of_one_model_learn_together():
    with Emulator() as emulator, Emulator() as other:
        with Embedder(openai(emulator), endpoints=[openai(other)], query_model=openai(other)) as embedder:
            route, queries = embedder._engine.documents, embedder._engine.queries
            first, second = route.endpoints
            assert first.estimator is second.estimator is queries.main.estimator
        with Embedder(openai(emulator)) as another:
            assert another._engine.documents.main.estimator is not first.estimator


@pytest.mark.parametrize("make", [openai, voyage])
def test_a_given_count_refuses_before_any_request(make):
    asked = []

    def count(texts):
        asked.extend(texts)
        return [digits(text) for text in texts]

    long, longest = "7" * 40_000, "8" * 50_000
    with Emulator() as emulator, Embedder(make(emulator, count_tokens=count)) as embedder:
        with pytest.raises(InputError, match="Text 1 has 40000 tokens") as caught:
            embedder.embed(["short", long, longest])
        assert caught.value.index == 1
        assert asked == [long, longest]
        assert emulator.requests == []
        embedder.embed(["short"])
        assert asked == [long, longest], "only those that could be too long are counted"


@pytest.mark.parametrize("cache", [None, "memory:"])
@pytest.mark.parametrize("make", [openai, voyage])
def test_a_text_that_counts_too_long_is_a_failure_of_its_own_where_that_is_wanted(make, cache):
    count = lambda texts: [digits(text) for text in texts]  # noqa: E731
    texts = ["first", "7" * 40_000, "third", "7" * 40_000]
    with Emulator() as emulator, Embedder(make(emulator, count_tokens=count), cache=cache) as embedder:
        for _ in range(2):
            result = embedder.embed(texts, on_error="return")
            assert {index: type(error) for index, error in result.errors.items()} == {1: InputError, 3: InputError}
            assert str(result.errors[1]).startswith("Text 1: has 40000 tokens")
            assert np.isnan(result.embeddings).all(axis=1).tolist() == [False, True, False, True]
        assert all("7" * 40_000 not in request.body["input"] for request in emulator.requests)
        with pytest.raises(InputError, match="Text 0: has 40000 tokens"):
            embedder.embed(["7" * 40_000], on_error="return")


@pytest.mark.parametrize(
    ("count", "problem"),
    [
        (lambda texts: 1 / 0, "failed with ZeroDivisionError"),
        (lambda texts: [], "gave 0 numbers for 1 texts"),
        (lambda texts: ["many"], "integers"),
        (lambda texts: [-1], "integers"),
        (lambda texts: [True], "integers"),
        (lambda texts: None, "failed with TypeError"),
    ],
)
def test_a_given_count_may_be_wrong(count, problem):
    with Emulator() as emulator, Embedder(openai(emulator, count_tokens=count)) as embedder:
        with pytest.raises(ConfigurationError, match=problem) as caught:
            embedder.embed(["canary " * 3_000])
        assert caught.value.__context__ is None
        assert "canary" not in str(caught.value)
        assert emulator.requests == []


def test_a_count_is_a_function():
    with pytest.raises(ConfigurationError, match="count_tokens"):
        OpenAI("text-embedding-3-small", api_key="k", count_tokens=7)
