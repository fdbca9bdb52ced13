"""N8: an answer whose rows are good but for some. The good ones are kept, the bad ones asked for again, alone."""

from __future__ import annotations

import asyncio
import base64
import dataclasses

import numpy as np
import pytest

from mrlclient import Embedder, MRLError
from mrlclient.cache import MemoryCache
from mrlclient.testing.emulator import FAULTS, Fault, edits
from tests.faults.matrix import (
    ADDRESSES,
    TEXTS,
    Case,
    check,
    expected_rows,
    named,
    of_emulator,
    provider_at,
    waits_skipped,
)
from tests.faults.server import Connection, serving, texts_of, tiny_answer, tiny_provider, tiny_rows

WIDTH = 512
BAD = ("nan", "infinity", "minus_infinity", "zero_vector", "denormal_vector", "norm_3")


def embed(embedder, face, texts, **options):
    with waits_skipped():
        if face == "sync":
            return embedder.embed(texts, **options)
        return asyncio.run(embedder.aembed(texts, **options))


def sent(emulator):
    return [request.body["input"] for request in emulator.requests]


CASES = [
    Case(
        row="N8",
        name=f"{name}, once, {provider}",
        inject=of_emulator(FAULTS[name], provider=provider),
        expects=None,
        attempts=2,
    )
    for name in BAD
    for provider in ADDRESSES
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)


@pytest.mark.parametrize("name", BAD)
def test_only_the_bad_row_is_asked_for_again(name, face, emulator):
    emulator.faults.append(FAULTS[name])
    with Embedder(provider_at(emulator, "openai"), dimensions=WIDTH) as embedder:
        rows = embed(embedder, face, TEXTS).embeddings
    np.testing.assert_allclose(rows, expected_rows(ADDRESSES["openai"], TEXTS, WIDTH), atol=3e-4)
    assert sent(emulator) == [list(TEXTS), [TEXTS[1]]]


@pytest.mark.parametrize("provider", ADDRESSES)
@pytest.mark.parametrize("name", BAD)
def test_a_row_that_stays_bad_is_an_error_of_its_own(name, provider, face, emulator):
    """Asked for twice more; then the error names it, and the good ones are there and kept."""
    emulator.faults.append(dataclasses.replace(FAULTS[name], times=99))
    cache = MemoryCache()
    with Embedder(provider_at(emulator, provider), dimensions=WIDTH, cache=cache) as embedder:
        with pytest.raises(MRLError) as caught:
            embed(embedder, face, TEXTS)
        assert caught.value.index == 1
        assert sent(emulator) == [list(TEXTS), [TEXTS[1]], [TEXTS[1]]]
        partial = caught.value.partial
        assert set(partial.errors) == {1}
        assert np.isnan(partial.embeddings[1]).all()
        good = [TEXTS[0], TEXTS[2]]
        np.testing.assert_allclose(
            partial.embeddings[[0, 2]], expected_rows(ADDRESSES[provider], good, WIDTH), atol=3e-4
        )
        assert cache.stats().entries == 2
        emulator.clear()
        embed(embedder, face, good)
        assert emulator.requests == []


def test_the_result_instead_of_the_error(face, emulator):
    emulator.faults.append(dataclasses.replace(FAULTS["nan"], times=99))
    with Embedder(provider_at(emulator, "openai"), dimensions=WIDTH) as embedder:
        result = embed(embedder, face, TEXTS, on_error="return")
    assert set(result.errors) == {1}
    assert result.errors[1].index == 1
    assert np.isnan(result.embeddings[1]).all()
    assert np.isfinite(result.embeddings[[0, 2]]).all()


def test_one_bad_row_of_2048(face):
    numbers = list(range(0, 4096, 2))
    texts = [f"{number:x}" for number in numbers]

    def script(connection: Connection) -> None:
        while request := connection.read_request():
            asked = texts_of(request)
            answer = tiny_answer(asked)
            if len(asked) > 1:
                nothing = base64.b64encode(bytes(8))
                answer = answer.replace(base64.b64encode(tiny_rows([numbers[1234]]).tobytes()), nothing)
            connection.send(answer)

    with serving(script) as server, Embedder(tiny_provider(server.url)) as embedder:
        rows = embed(embedder, face, texts).embeddings
    np.testing.assert_allclose(rows, tiny_rows(numbers), atol=1e-6)
    assert [texts_of(request) for request in server.received] == [texts, [texts[1234]]]


def test_several_bad_rows_are_asked_for_together(face, emulator):
    texts = [f"text {i}" for i in range(10)]
    bad = (2, 3, 7)

    def spoil(data):
        change = edits.set_number(float("inf"))
        return [row | {"embedding": change(row["embedding"])} if row["index"] in bad else row for row in data]

    emulator.faults.append(Fault(edit=edits.of_data(spoil)))
    with Embedder(provider_at(emulator, "openai"), dimensions=WIDTH) as embedder:
        rows = embed(embedder, face, texts).embeddings
    np.testing.assert_allclose(rows, expected_rows(ADDRESSES["openai"], texts, WIDTH), atol=3e-4)
    assert sent(emulator)[1:] == [[texts[i] for i in bad]]
