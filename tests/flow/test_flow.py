"""The algorithm against scripts: any fault schedule, no clock, no sockets."""

from __future__ import annotations

import pickle
import traceback

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import (
    BadRequestError,
    DimensionsMismatchError,
    InputError,
    ModelSpec,
    ProviderConnectionError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ResponseContractError,
    ServerError,
)
from mrlclient.flow import embed
from mrlclient.models import find_model
from mrlclient.operations import Answer
from mrlclient.testing import ScriptedDriver
from tests.flow.acme import Dialect, answer, call_of, route_to, run, unit, vector


def script(*failures):
    """Fails with each of `failures` in turn, then answers."""
    pending = list(failures)

    def reply(batch):
        if pending and (failure := pending.pop(0)) is not None:
            raise failure
        return answer(batch)

    return reply


def server_error(**options):
    return ServerError("no", retryable=True, **options)


texts = st.lists(st.sampled_from([f"text {i}" for i in range(9)]), max_size=12)


@given(texts, st.integers(1, 4), st.integers(1, 8))
def test_rows_come_in_order_and_each_text_goes_out_once(given_texts, batch_size, width):
    result, driver = run(given_texts, dialect=Dialect(batch_size=batch_size), dimensions=width)
    sent = [text for batch in driver.sent for text in batch.texts]
    assert sorted(sent) == sorted(set(given_texts))
    assert result.embeddings.shape == (len(given_texts), width)
    if given_texts:
        np.testing.assert_allclose(result.embeddings, unit([vector(t)[:width] for t in given_texts]), atol=1e-6)
    assert result.usage.tokens == len(set(given_texts))
    assert result.usage.usd == pytest.approx(2e-6 * len(set(given_texts)))


@given(st.lists(st.sampled_from(["server", "foreign", "contract", None]), max_size=8), st.integers(1, 5))
def test_any_fault_schedule(schedule, max_attempts):
    """Each text succeeds once, or the last error is ours; attempts and waits keep their bounds."""
    faults = {
        "server": server_error(),
        "foreign": OSError("canary"),
        "contract": ResponseContractError("no", retryable=True),
        None: None,
    }
    leading = schedule[: schedule.index(None)] if None in schedule else schedule
    allowed = max_attempts
    for attempt, fault in enumerate(leading, 1):
        if attempt >= (min(3, max_attempts) if fault == "contract" else max_attempts):
            allowed = attempt
            break
    fails = len(leading) >= allowed and bool(leading)
    reply = script(*(faults[name] for name in [*leading, None]))
    if fails:
        with pytest.raises(ProviderError) as caught:
            run(["a"], reply, max_attempts=max_attempts)
        driver = caught.value.driver
        assert len(driver.sent) == allowed
    else:
        result, driver = run(["a"], reply, max_attempts=max_attempts)
        np.testing.assert_allclose(result.embeddings, unit([vector("a")]), atol=1e-6)
        assert len(driver.sent) == len(leading) + 1
    assert len(driver.slept) == len(driver.sent) - 1
    assert all(0 <= seconds <= 8 for seconds in driver.slept)


@pytest.mark.parametrize("asked", [0.25, 7.0, 60.0])
def test_waits_as_long_as_the_server_asks(asked):
    _, driver = run(["a"], script(RateLimitError("no", retryable=True, retry_after=asked)))
    assert driver.slept == [asked]


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError("no", retryable=True, retry_after=61.0),
        QuotaError("no"),
        BadRequestError("no", status=400),
    ],
)
def test_what_is_not_tried_again(error):
    with pytest.raises(type(error)) as caught:
        run(["a"], script(error))
    assert caught.value is error
    assert len(error.driver.sent) == 1
    assert error.driver.slept == []


def test_the_refused_text_is_named_by_the_callers_index():
    def reply(batch):
        if "bad" in batch.texts:
            raise InputError("it is too long", index=batch.texts.index("bad"))
        return answer(batch)

    with pytest.raises(InputError, match="Text 4: it is too long") as caught:
        run(["a", "b", "a", "c", "bad", "bad"], reply)
    assert caught.value.index == 4


@pytest.mark.parametrize("failure", [OSError("canary"), ValueError("canary")])
def test_a_foreign_error_leaves_no_trace(failure):
    with pytest.raises(ProviderConnectionError) as caught:
        run(["a"], script(failure, failure, failure), max_attempts=3)
    error = caught.value
    del error.driver
    assert error.__cause__ is None
    assert error.__context__ is None
    assert b"canary" not in pickle.dumps(error)
    ours = [f for f in traceback.walk_tb(error.__traceback__) if "mrlclient" in f[0].f_code.co_filename]
    held = [value for frame, _ in ours for name, value in frame.f_locals.items() if frame.f_code.co_name != "_perform"]
    assert not any(value is failure for value in held)


def bad_rows(**rows):
    def reply(batch):
        vectors = answer(batch).vectors
        for i, row in rows.items():
            vectors[int(i[1:])] = row
        return Answer(vectors)

    return reply


def bad_text(bad, row, times=99):
    """Answers with this row for one text, so many times."""
    left = [times]

    def reply(batch):
        vectors = answer(batch).vectors
        if bad in batch.texts and left[0]:
            left[0] -= 1
            vectors[batch.texts.index(bad)] = row
        return Answer(vectors, tokens=len(batch.texts))

    return reply


@pytest.mark.parametrize("row", [np.nan, np.inf, 0.0])
def test_an_unusable_vector_is_asked_for_again_alone(row):
    result, driver = run(["a", "a", "b"], bad_text("b", row, times=2))
    np.testing.assert_allclose(result.embeddings, unit([vector(t) for t in "aab"]), atol=1e-6)
    assert [list(batch.texts) for batch in driver.sent] == [["a", "b"], ["b"], ["b"]]
    assert result.usage.tokens == 4


@pytest.mark.parametrize("row", [np.nan, np.inf, 0.0])
def test_an_unusable_vector_is_named_by_the_callers_index(row):
    with pytest.raises(ResponseContractError, match=r"Text 2: .* a vector that is (not finite|all zero)") as caught:
        run(["a", "a", "b", "c"], bad_text("b", row))
    error = caught.value
    assert [list(batch.texts) for batch in error.driver.sent] == [["a", "b"], ["b"], ["b"], ["c"]]
    assert error.index == 2
    assert error.partial.errors == {2: error}
    np.testing.assert_allclose(
        error.partial.embeddings, [*unit([vector(t) for t in "aa"]), [np.nan] * 8, *unit([vector("c")])]
    )


@pytest.mark.parametrize("row", [np.nan, np.inf, 0.0])
def test_an_answer_of_unusable_vectors_only(row):
    with pytest.raises(ResponseContractError, match=r"2 vectors that are (not finite|all zero)") as caught:
        run(["a", "b"], bad_rows(r0=row, r1=row))
    assert len(caught.value.driver.sent) == 3
    assert caught.value.partial is None


def test_a_vector_that_is_zero_after_the_cut_is_unusable():
    with pytest.raises(ResponseContractError, match="all zero"):
        run(["a"], bad_rows(r0=[0, 0, 0, 0]), dimensions=4)


@pytest.mark.parametrize("shape", [(1, 8), (3, 8), (0, 8)])
def test_a_wrong_count_is_unusable(shape):
    with pytest.raises(ResponseContractError, match="for 2 texts"):
        run(["a", "b"], lambda batch: Answer(np.ones(shape, np.float32)))


def test_a_server_that_ignores_the_width_is_cut_here_and_told_of():
    full = lambda batch: Answer(np.array([vector(text) for text in batch.texts]))  # noqa: E731
    result, _ = run(["a", "b", "c"], full, dimensions=4)
    np.testing.assert_allclose(result.embeddings, unit([vector(t)[:4] for t in "abc"]), atol=1e-6)
    assert result.reduction == "client"
    assert len(result.notes) == 1
    assert "ignored dimensions=4" in result.notes[0]


@pytest.mark.parametrize("width", [3, 5, 7, 16])
def test_another_width_is_a_mismatch(width):
    with pytest.raises(DimensionsMismatchError, match=str(width)):
        run(["a"], lambda batch: Answer(np.ones((1, width), np.float32)), dimensions=4)


def test_a_model_that_may_not_be_cut_is_not_cut_whatever_comes():
    spec = ModelSpec(provider="acme", name="fixed", native_dimensions=4, matryoshka=False)
    with pytest.raises(DimensionsMismatchError):
        run(["a"], lambda batch: Answer(np.ones((1, 8), np.float32)), dialect=Dialect(spec))


def test_the_recipe_centres_full_vectors_only():
    spec = find_model("nomic:nomic-embed-text-v1.5")
    rows = np.random.default_rng(0).normal(0.4, 1, (1, 768)).astype(np.float32)
    result, _ = run(["a"], lambda batch: Answer(rows), dialect=Dialect(spec), dimensions=256)
    np.testing.assert_allclose(result.embeddings, unit((rows - rows.mean())[:, :256]), atol=1e-6)


@pytest.mark.parametrize("given_texts", [["short", "x" * 101, "y" * 102], ["x" * 101]])
def test_over_long_texts_are_refused_before_anything_is_sent(given_texts):
    with pytest.raises(InputError, match="101 tokens") as caught:
        run(given_texts, dialect=Dialect(counts_tokens=True))
    assert caught.value.index == given_texts.index("x" * 101)
    assert caught.value.driver.sent == []
    result, _ = run(given_texts, dialect=Dialect(counts_tokens=True), truncate_input=True)
    assert len(result) == len(given_texts)


def test_usage_is_unknown_where_one_answer_does_not_say():
    replies = iter([5, None])
    result, _ = run(
        ["a", "b", "c"], lambda batch: Answer(answer(batch).vectors, tokens=next(replies)), dialect=Dialect()
    )
    assert (result.usage.tokens, result.usage.usd) == (None, None)


@pytest.mark.parametrize("step", ["decode", "count"])
def test_a_foreign_error_of_a_provider_does_not_cross_the_edge(step):
    class Careless(Dialect):
        def decode(self, reply, batch):
            raise KeyError("canary")

    def count(text):
        raise ValueError("canary")

    dialect = Careless(counts_tokens=step == "count")
    driver = ScriptedDriver(answer, count_tokens=count)
    with pytest.raises(ProviderConnectionError) as caught:
        driver.run(embed(call_of(["x" * 101], route_to(dialect), max_attempts=1)))
    assert caught.value.__context__ is None
