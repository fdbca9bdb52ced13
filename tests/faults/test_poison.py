"""U2: texts that a server refuses. Found by halving, and named; every other text is embedded and kept."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from mrlclient import BadRequestError, ConfigurationError, Embedder, InputError, MRLError
from mrlclient.cache import MemoryCache
from mrlclient.testing.emulator import Fault
from tests.faults.matrix import ADDRESSES, Case, check, expected_rows, named, of_emulator, provider_at
from tests.faults.server import (
    TINY_TEXTS,
    Connection,
    FaultServer,
    http,
    serving,
    texts_of,
    tiny_answer,
    tiny_provider,
    tiny_rows,
)

BATCH = 2048
WIDTH = 64

_REFUSAL = {"error": {"message": "Invalid value in 'input'.", "type": "invalid_request_error", "code": None}}
_TOO_MANY = {"type": "max_tokens_per_request", "code": "max_tokens_per_request", "message": "Requested 306153 tokens."}
_TOO_MANY_VOYAGE = {"detail": "Please lower the number of tokens.", "error_code": "TOO_MANY_TOKENS_IN_BATCH"}


def poison(*texts: str, status: int = 400) -> Fault:
    """Refuses each request with one of these texts, and does not say for which."""
    refused = set(texts)
    return Fault(
        status=status, body=_REFUSAL, times=10**6, when=lambda request: not refused.isdisjoint(request.body["input"])
    )


def too_large(most: int, status: int, body: dict[str, Any] | None) -> Fault:
    """Refuses each request of more than so many texts."""
    return Fault(status=status, body=body, times=10**6, when=lambda request: len(request.body["input"]) > most)


def bound(texts: int, poisons: int = 1) -> int:
    """Requests that the search may take at most, in one batch."""
    return poisons * (2 * math.ceil(math.log2(texts)) + 2)


def embedder_at(emulator, provider="openai", **options):
    return Embedder(
        provider_at(emulator, provider, 30.0), dimensions=WIDTH, on_narrow="allow", max_concurrency=1, **options
    )


def embed(embedder, face, texts, **options):
    if face == "sync":
        return embedder.embed(texts, **options)
    return asyncio.run(embedder.aembed(texts, **options))


def check_partial(result, texts, bad, address=ADDRESSES["openai"]):
    """Every good row is right, every bad one NaN and named."""
    good = [i for i in range(len(texts)) if i not in bad]
    assert result.embeddings.shape == (len(texts), WIDTH)
    assert np.isnan(result.embeddings[sorted(bad)]).all()
    if good:
        right = expected_rows(address, [texts[i] for i in good], WIDTH)
        np.testing.assert_allclose(result.embeddings[good], right, atol=3e-4)
    assert set(result.errors) == set(bad)
    assert all(isinstance(error, MRLError) for error in result.errors.values())
    # Of a text that stands several times, the first place.
    assert all(error.index == texts.index(texts[index]) for index, error in result.errors.items())


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize(("count", "at"), [(2, 1), (3, 0), (7, 3), (64, 63)])
def test_one_poison(count, at, status, face, emulator):
    texts = [f"text {i}" for i in range(count)]
    emulator.faults.append(poison(texts[at], status=status))
    with embedder_at(emulator) as embedder, pytest.raises((InputError, BadRequestError)) as caught:
        embed(embedder, face, texts)
    assert caught.value.index == at
    assert texts[at] not in str(caught.value)
    check_partial(caught.value.partial, texts, {at})
    assert len(emulator.requests) <= bound(count)


def test_a_poison_alone(face, emulator):
    emulator.faults.append(poison("poison"))
    with embedder_at(emulator) as embedder, pytest.raises((InputError, BadRequestError)) as caught:
        embed(embedder, face, ["poison"])
    # With nothing beside it, nobody can tell whether it is the text or the request.
    assert caught.value.index in (None, 0)
    assert len(emulator.requests) == 1


def test_the_result_instead_of_the_error(face, emulator):
    texts = [f"text {i}" for i in range(100)]
    emulator.faults.append(poison(texts[7]))
    with embedder_at(emulator) as embedder:
        result = embed(embedder, face, texts, on_error="return")
        check_partial(result, texts, {7})
        emulator.clear()
        whole = embed(embedder, face, texts[:7], on_error="return")
    assert not whole.errors
    check_partial(whole, texts[:7], set())


def test_a_poison_that_stands_twice(face, emulator):
    """It goes out once, and is named in each of its places."""
    texts = ["a", "poison", "b", "poison", "c"]
    emulator.faults.append(poison("poison"))
    with embedder_at(emulator) as embedder:
        check_partial(embed(embedder, face, texts, on_error="return"), texts, {1, 3})


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_the_good_ones_are_kept(on_error, face, emulator):
    """And only they: asked again, they cost nothing, and the poison costs one request."""
    texts = [f"text {i}" for i in range(50)]
    cache = MemoryCache()
    emulator.faults.append(poison(texts[20]))
    with embedder_at(emulator, cache=cache) as embedder:
        try:
            embed(embedder, face, texts, on_error=on_error)
        except MRLError:
            assert on_error == "raise"
        assert cache.stats().entries == 49
        assert all(np.isfinite(entry.vector).all() for entry in cache.items())
        before = len(emulator.requests)
        result = embed(embedder, face, texts, on_error="return")
        check_partial(result, texts, {20})
        assert len(emulator.requests) == before + 1


@contextmanager
def tiny_server(*bad: str) -> Iterator[FaultServer]:
    """A server that refuses these texts, or all where there are none, and is quick about the others."""

    def script(connection: Connection) -> None:
        while request := connection.read_request():
            texts = texts_of(request)
            refused = not bad or not set(bad).isdisjoint(texts)
            connection.send(http(json.dumps(_REFUSAL).encode(), 400) if refused else tiny_answer(texts))

    with serving(script) as server:
        yield server


def poisoned(seed: int, face: str) -> None:
    chance = random.Random(seed)
    numbers = chance.sample(range(TINY_TEXTS), BATCH)
    texts = [f"{number:x}" for number in numbers]
    bad = sorted(chance.sample(range(BATCH), 1 if seed == 0 else chance.randint(1, 16)))
    with tiny_server(*(texts[i] for i in bad)) as server, Embedder(tiny_provider(server.url)) as embedder:
        result = embed(embedder, face, texts, on_error="return")
    assert sorted(result.errors) == bad
    right = tiny_rows(numbers)
    right[bad] = np.nan
    np.testing.assert_allclose(result.embeddings, right, atol=1e-6)
    assert len(server.received) <= bound(BATCH, len(bad))


@pytest.mark.parametrize("seed", range(5))
def test_poisons_of_2048(seed, face):
    poisoned(seed, face)


@pytest.mark.soak
def test_poisons_of_2048_often(face):
    for seed in range(5, 50):
        poisoned(seed, face)


def test_a_refusal_of_everything_is_not_asked_of_each_text(face):
    """Where no half is taken, it is the request that is refused."""
    texts = [f"{i:x}" for i in range(BATCH)]
    with tiny_server() as server, Embedder(tiny_provider(server.url)) as embedder, pytest.raises(MRLError):
        embed(embedder, face, texts)
    assert len(server.received) <= bound(BATCH)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 410])
def test_what_no_text_is_to_blame_for_is_not_searched(status, face, emulator):
    emulator.faults.append(Fault(status=status, body=_REFUSAL, times=10**6))
    with embedder_at(emulator) as embedder, pytest.raises(MRLError):
        embed(embedder, face, [f"text {i}" for i in range(64)])
    assert len(emulator.requests) == 1


@pytest.mark.parametrize(
    ("provider", "fault"),
    [
        ("openai", too_large(20, 400, {"error": _TOO_MANY})),
        ("openai", too_large(20, 413, None)),
        ("voyage", too_large(20, 400, _TOO_MANY_VOYAGE)),
        ("voyage", too_large(20, 413, None)),
    ],
    ids=["openai-400", "openai-413", "voyage-400", "voyage-413"],
)
def test_too_much_for_one_request_is_halved(provider, fault, face, emulator):
    """64 texts where 20 are taken: four requests of 16, after the three that were too large."""
    texts = [f"text {i}" for i in range(64)]
    emulator.faults.append(fault)
    width = 512
    with Embedder(provider_at(emulator, provider), dimensions=width) as embedder:
        result = embed(embedder, face, texts)
    np.testing.assert_allclose(result.embeddings, expected_rows(ADDRESSES[provider], texts, width), atol=3e-4)
    assert sorted(len(request.body["input"]) for request in emulator.requests) == [16] * 4 + [32] * 2 + [64]


CASES = [
    Case(
        row="U2",
        name=f"one text that is too much, {status}",
        inject=of_emulator(Fault(status=status, body=body, times=99)),
        expects=BadRequestError,
        attempts=1,
        texts=("a first text, which nobody else may see",),
    )
    for status, body in ((400, {"error": _TOO_MANY}), (413, None))
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)


@pytest.mark.parametrize("wrong", ["ignore", None, True])
def test_what_on_error_may_be(wrong, emulator):
    with embedder_at(emulator) as embedder, pytest.raises(ConfigurationError, match="on_error"):
        embedder.embed(["a"], on_error=wrong)
    assert emulator.requests == []
