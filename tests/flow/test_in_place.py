"""Answers that are written into the caller's matrix by whoever decodes them."""

import numpy as np
import pytest

from mrlclient.cache import MemoryCache
from mrlclient.cache.guarded import GuardedCache
from mrlclient.cached import Caching
from mrlclient.flow import embed
from mrlclient.models import find_model
from mrlclient.operations import Answer
from mrlclient.testing import ScriptedDriver
from tests.flow.acme import SPEC, Dialect, answer, call_of, route_to, run, unit, vector

TEXTS = ["a", "b", "c", "d", "e"]


def written(batch):
    """Writes where it may, and answers with that."""
    vectors = answer(batch).vectors
    if batch.out is not None and batch.out.shape == vectors.shape:
        batch.out[...] = vectors
        vectors = batch.out
    return Answer(vectors, tokens=len(batch.texts))


def other_view(batch):
    batch.out[...] = answer(batch).vectors
    return Answer(batch.out[:])


def upside_down(batch):
    batch.out[::-1] = answer(batch).vectors
    return Answer(batch.out[::-1])


@pytest.mark.parametrize("reply", [answer, written, other_view, upside_down])
@pytest.mark.parametrize("dimensions", [8, 3])
def test_the_same_wherever_the_vectors_are(reply, dimensions):
    result, driver = run(TEXTS, reply, dialect=Dialect(batch_size=3), dimensions=dimensions)
    np.testing.assert_allclose(result.embeddings, unit([vector(text)[:dimensions] for text in TEXTS]), atol=1e-6)
    places = [batch.out for batch in driver.sent]
    assert [out.shape for out in places] == [(3, dimensions), (2, dimensions)]
    assert all(np.shares_memory(out, result.embeddings) for out in places)


@pytest.mark.parametrize(
    ("spec", "dimensions"),
    [
        (find_model("nomic:nomic-embed-text-v1.5"), 768),
        (find_model("nomic:nomic-embed-text-v1.5"), 256),
        (find_model("voyage:voyage-3.5"), 100),
    ],
)
def test_what_is_changed_on_the_way_has_a_place_of_its_own(spec, dimensions):
    call = call_of(["a", "b"], route_to(Dialect(spec)), dimensions=dimensions)
    assert call.room(range(2)) is None


def test_only_the_bad_rows_are_asked_for_again():
    asked = []

    def reply(batch):
        asked.append(list(batch.texts))
        made = written(batch)
        for i, text in enumerate(batch.texts):
            if len(asked) < 3 and text in "bd":
                made.vectors[i] = (0.0, np.nan)[len(asked) - 1]
        return made

    result, _ = run(TEXTS, reply, dialect=Dialect(batch_size=5))
    assert asked == [TEXTS, ["b", "d"], ["b", "d"]]
    np.testing.assert_allclose(result.embeddings, unit([vector(text) for text in TEXTS]), atol=1e-6)


def test_rows_that_stay_bad_are_no_vectors():
    def reply(batch):
        made = written(batch)
        made.vectors[[text == "b" for text in batch.texts]] = np.inf
        return made

    result, _ = run(TEXTS, reply, dialect=Dialect(batch_size=5), on_error="return")
    assert list(result.errors) == [1]
    assert np.isnan(result.embeddings[1]).all()
    good = [0, 2, 3, 4]
    np.testing.assert_allclose(result.embeddings[good], unit([vector(TEXTS[i]) for i in good]), atol=1e-6)


def test_a_wider_answer_than_asked_for_is_cut():
    def reply(batch):
        assert batch.out.shape == (len(batch.texts), 4)
        return Answer(np.array([vector(text) for text in batch.texts]))

    result, _ = run(TEXTS, reply, dimensions=4)
    np.testing.assert_allclose(result.embeddings, unit([vector(text)[:4] for text in TEXTS]), atol=1e-6)


def test_a_cache_keeps_vectors_as_they_came():
    """Not as they are in the result, where they are normalised."""
    cache = GuardedCache(MemoryCache())
    call = call_of(TEXTS, route_to(Dialect(batch_size=5)))
    driver = ScriptedDriver(written)
    result = driver.run(embed(call, Caching(cache, cache.flights, ("acme",))))
    np.testing.assert_allclose(result.embeddings, unit([vector(text) for text in TEXTS]), atol=1e-6)
    assert [batch.out for batch in driver.sent] == [None]
    # Rows that follow one another are a range also where a cache said that they are missing.
    assert driver.sent[0].rows == range(5)
    kept = [entry.vector for entry in cache.cache.items()]
    np.testing.assert_array_equal(kept, [vector(text) for text in TEXTS])
    assert SPEC.address == next(iter(cache.cache.items())).model
