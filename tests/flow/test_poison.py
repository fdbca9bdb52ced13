"""A request that is refused for some of its texts, or for its size: the others are embedded all the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import AuthenticationError, BadRequestError, InputError, ServerError
from tests.flow.acme import Dialect, answer, run, unit, vector


def refuses(bad, *, size=None, named=False):
    """A server that refuses requests that hold one of `bad`, and those of more than `size` texts."""

    def reply(batch):
        if size is not None and len(batch.texts) > size:
            raise BadRequestError("too many tokens", status=400, scope="size")
        for place, text in enumerate(batch.texts):
            if text in bad:
                if named:
                    raise InputError("it is refused", index=place)
                raise BadRequestError("bad input", status=400, scope="text")
        return answer(batch)

    return reply


def texts_of(count):
    return [f"text {i}" for i in range(count)]


def check(result, texts, bad):
    wanted = [text not in bad for text in texts]
    assert set(result.errors) == {i for i, good in enumerate(wanted) if not good}
    assert np.isnan(result.embeddings[~np.array(wanted, bool)]).all()
    good = [text for text in texts if text not in bad]
    if good:
        np.testing.assert_allclose(result.embeddings[wanted], unit([vector(text) for text in good]), atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 8, 100, 1000, 2048])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.5, 0.77, 1.0])
def test_one_bad_text_costs_a_logarithm_of_requests(count, place):
    texts = texts_of(count)
    bad = texts[round(place * (count - 1))]
    result, driver = run(texts, refuses({bad}), dialect=Dialect(batch_size=4096), on_error="return")
    check(result, texts, {bad})
    assert len(driver.sent) <= 2 * math.log2(count) + 2
    assert driver.slept == []


@given(st.data())
def test_several_bad_texts(data):
    texts = texts_of(data.draw(st.integers(1, 300)))
    bad = set(data.draw(st.lists(st.sampled_from(texts), max_size=16)))
    size = data.draw(st.none() | st.integers(1, 64))
    dialect = Dialect(batch_size=data.draw(st.integers(1, 400)))
    reply = refuses(bad, size=size, named=data.draw(st.booleans()))
    try:
        result, driver = run(texts, reply, dialect=dialect, on_error="return")
    except (BadRequestError, InputError):
        # Where the first, the last and the middle one of a batch are all bad, it looks like the request itself.
        assert bad
        return
    lost = {texts[i] for i in result.errors}
    assert bad <= lost
    if len(lost) > len(bad):
        # Nobody is lost but with a batch that looked like it.
        assert all(result.errors[i].index is None for i in result.errors if texts[i] not in bad)
    check(result, texts, lost)
    answered = [
        text
        for batch in driver.sent
        if not bad & set(batch.texts) and len(batch.texts) <= (size or 999)
        for text in batch.texts
    ]
    assert len(answered) == len(set(answered)), "each text succeeds once"


@pytest.mark.parametrize("bad_ones", [1, 2, 4, 8, 16])
def test_up_to_16_bad_ones_of_2048(bad_ones):
    texts = texts_of(2048)
    for seed in range(3):
        bad = set(np.random.default_rng(seed).choice(texts, bad_ones, replace=False).tolist())
        result, driver = run(texts, refuses(bad), dialect=Dialect(batch_size=2048), on_error="return")
        check(result, texts, bad)
        assert len(driver.sent) <= bad_ones * (2 * math.log2(2048) + 2)


def test_the_error_has_the_others_with_it():
    texts = ["a", "b", "a", "bad", "c", "bad"]
    with pytest.raises(BadRequestError, match="Text 3: bad input") as caught:
        run(texts, refuses({"bad"}), dialect=Dialect(batch_size=2))
    error = caught.value
    assert (error.index, error.status) == (3, 400)
    check(error.partial, texts, {"bad"})
    assert all(error.partial.errors[i].index == 3 for i in (3, 5))
    assert error.__context__ is None


def test_a_request_that_is_refused_whatever_is_in_it_is_not_taken_apart():
    def reply(batch):
        raise BadRequestError("no such parameter", status=400, scope="text")

    with pytest.raises(BadRequestError) as caught:
        run(texts_of(2048), reply, dialect=Dialect(batch_size=2048))
    assert len(caught.value.driver.sent) == 4
    assert caught.value.index is None
    assert caught.value.partial is None


@pytest.mark.parametrize(("count", "size"), [(8, 1), (2048, 300), (5, 4)])
def test_a_request_that_is_too_large_is_halved(count, size):
    texts = texts_of(count)
    result, driver = run(texts, refuses((), size=size), dialect=Dialect(batch_size=2048))
    check(result, texts, set())
    sizes = [len(batch.texts) for batch in driver.sent if len(batch.texts) <= size]
    assert sum(sizes) == count


def test_a_text_that_is_too_large_alone():
    texts = texts_of(4)
    with pytest.raises(BadRequestError) as caught:
        run(texts, refuses((), size=0), dialect=Dialect(batch_size=4))
    assert caught.value.index == 0
    assert len(caught.value.driver.sent) == 7


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_a_batch_that_fails_for_good(on_error):
    texts = texts_of(6)

    def reply(batch):
        if "text 2" in batch.texts:
            raise ServerError("down", status=500, retryable=False)
        return answer(batch)

    if on_error == "return":
        result, driver = run(texts, reply, on_error="return")
        assert len(driver.sent) == 3
    else:
        with pytest.raises(ServerError) as caught:
            run(texts, reply)
        result = caught.value.partial
        assert len(caught.value.driver.sent) == 2, "a failure that is no text's own ends the call"
        assert set(result.errors) == {2, 3, 4, 5}
        return
    check(result, texts, {"text 2", "text 3"})
    assert {type(error) for error in result.errors.values()} == {ServerError}


def test_after_a_refused_key_nothing_more_is_sent():
    def reply(batch):
        if "text 2" in batch.texts:
            raise AuthenticationError("no", status=401)
        return answer(batch)

    result, driver = run(texts_of(9), reply, on_error="return")
    assert len(driver.sent) == 2
    check(result, texts_of(9), set(texts_of(9)[2:]))


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_where_nothing_can_be_had_it_is_an_error(on_error):
    with pytest.raises(InputError) as caught:
        run(["a", "b"], refuses({"a", "b"}, named=True), on_error=on_error)
    assert caught.value.index == 0
    assert caught.value.partial is None
