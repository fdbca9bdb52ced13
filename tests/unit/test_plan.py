import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import InputError, ModelSpec, OpenAI
from mrlclient.dimensions import resolve
from mrlclient.models import find_model
from mrlclient.packing import Packing
from mrlclient.plan import make_plan
from mrlclient.tokens import TokenEstimator, token_bound

SPEC = find_model("wordllama:l2-supercat-256")
NOMIC = find_model("nomic:nomic-embed-text-v1.5")
texts = st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: not text.isspace()))
packings = st.builds(Packing, st.integers(1, 5), st.none() | st.integers(1, 400), st.booleans())


LARGE = Packing(1000)


def plan_of(given_texts, packing=LARGE, spec=SPEC, **options):
    return make_plan(spec, packing, given_texts, resolve(spec, None), **options)


@given(texts, packings)
def test_batches_partition_the_distinct_texts(given_texts, packing):
    plan = plan_of(given_texts, packing)
    sent = [text for batch in plan.batches() for text in batch.texts]
    assert sorted(sent) == sorted(set(given_texts))
    assert [plan.texts[row] for row in plan.rows] == given_texts
    assert [row for batch in plan.batches() for row in batch.rows] == list(range(len(plan.texts)))
    some = list(range(0, len(plan.texts), 2))
    assert [row for batch in plan.batches(some) for row in batch.rows] == some
    assert all(plan.texts[r] == t for b in plan.batches(some) for r, t in zip(b.rows, b.texts, strict=True))


@given(texts, packings)
def test_batches_keep_their_bounds(given_texts, packing):
    for batch in plan_of(given_texts, packing).batches():
        sizes = [token_bound(text) for text in batch.texts]
        assert 1 <= len(sizes) <= packing.max_inputs
        tokens = max(sizes) * len(sizes) if packing.padded else sum(sizes)
        assert packing.max_tokens is None or tokens <= packing.max_tokens or len(sizes) == 1


@given(texts.filter(bool))
def test_a_row_leads_back_to_its_first_text(given_texts):
    plan = plan_of(given_texts, Packing(3, padded=True))
    for row, text in enumerate(plan.texts):
        assert plan.given_index(row) == given_texts.index(text)


@st.composite
def lessons(draw):
    """What an estimator is told between two batches."""
    kinds = len(TokenEstimator().careful())
    load = draw(st.lists(st.integers(1, 1000), min_size=kinds, max_size=kinds))
    number = draw(st.integers(1, 5000))
    return load, number, draw(st.booleans())


estimating = st.builds(
    Packing,
    st.integers(1, 5),
    st.none() | st.integers(1, 400),
    estimated=st.just(True),
    max_request_bytes=st.none() | st.integers(1, 400),
    max_answer_bytes=st.none() | st.integers(1, 8000),
)


@given(texts, estimating, st.lists(lessons()), st.booleans())
def test_batches_partition_whatever_is_learned_in_between(given_texts, packing, told, all_of_them):
    plan, estimator = plan_of(given_texts, packing), TokenEstimator()
    wanted = range(len(plan.texts)) if all_of_them else range(0, len(plan.texts), 2)
    rows, told = [], iter(told)
    for batch in plan.batches(None if all_of_them else list(wanted), estimator):
        assert [plan.texts[row] for row in batch.rows] == list(batch.texts)
        assert 1 <= len(batch.rows) <= packing.max_inputs
        size = sum(len(text.encode()) for text in batch.texts)
        assert len(batch.rows) == 1 or size <= (packing.max_request_bytes or size)
        # 256 numbers of 4 bytes, in base64.
        assert len(batch.rows) == 1 or len(batch.rows) * 1368 <= (packing.max_answer_bytes or math.inf)
        rows += list(batch.rows)
        for load, number, refused in itertools.islice(told, 1):
            if refused:
                estimator.refused(load, number, 0.9)
            else:
                estimator.learn(load, number)
    assert rows == list(wanted)


def test_what_fits_surely_goes_at_once():
    """At one token a byte there is room, whatever the estimate."""
    packing = Packing(1000, 100 * (1000 + 32), estimated=True)
    assert len(list(plan_of([f"{i:01000}" for i in range(100)], packing).batches())) == 1
    assert len(list(plan_of([f"{i:01000}" for i in range(101)], Packing(1000, 100 * 1032)).batches())) == 2


def test_batches_are_made_by_what_is_known_by_then():
    given_texts = [f"{f'{i} words' * 200:.1000}" for i in range(1000)]
    plan, estimator = plan_of(given_texts, Packing(1000, 100_000, estimated=True)), TokenEstimator()
    batches = plan.batches(None, estimator)
    first = next(batches)
    estimator.learn(plan.sizes.load(first.rows), 200 * len(first.rows))
    second = next(batches)
    assert 200 < len(first.rows) < 250
    assert 400 < len(second.rows) < 500
    plan.packing.was_refused(plan.sizes.load(second.rows), estimator)
    assert len(next(batches).rows) == pytest.approx(len(second.rows) / 2, abs=2)


@pytest.mark.parametrize(("dimensions", "sizes"), [(1536, [2048]), (3072, [1024, 1024]), (256, [2048])])
def test_answers_have_a_size(dimensions, sizes):
    """Of OpenAI's largest request, at full width."""
    spec = find_model("openai:text-embedding-3-large")
    packing = OpenAI(spec, api_key="k").packing
    plan = make_plan(spec, packing, [f"text {i}" for i in range(2048)], resolve(spec, dimensions))
    assert [len(batch.rows) for batch in plan.batches()] == sizes


def test_requests_have_a_size():
    """Even where the model has no bound on tokens."""
    spec = ModelSpec(provider="openai", name="m", native_dimensions=8, matryoshka=False)
    packing = OpenAI(spec, api_key="k").packing
    plan = plan_of([f"{i:01000000}" for i in range(40)], packing, spec)
    assert [len(batch.rows) for batch in plan.batches()] == [16, 16, 8]


def test_texts_of_like_length_go_together():
    plan = plan_of(["a" * n for n in (900, 1, 500, 2, 700)], Packing(2, padded=True))
    assert [[len(t) for t in batch.texts] for batch in plan.batches()] == [[1, 2], [500, 700], [900]]


@pytest.mark.parametrize(
    ("options", "prompt", "role"),
    [
        ({}, "search_document: ", "document"),
        ({"input_type": "document"}, "search_document: ", "document"),
        ({"input_type": "query"}, "search_query: ", "query"),
        ({"task": "clustering"}, "clustering: ", None),
        ({"task": "classification"}, "classification: ", None),
    ],
)
def test_prompts(options, prompt, role):
    plan = plan_of(["a text"], spec=NOMIC, **options)
    assert list(plan.texts) == [prompt + "a text"]
    assert plan.input_type == role


def test_no_text_is_in_a_repr():
    assert "canary" not in repr(plan_of(["canary"]))


def test_any_iterable_of_texts():
    assert len(plan_of(text for text in ("a", "b")).rows) == 2
    assert len(plan_of(np.array(["a", "b"])).rows) == 2
    with pytest.raises(InputError, match="int"):
        plan_of(7)


def test_a_unicode_error_leaves_nothing_behind():
    with pytest.raises(InputError) as caught:
        plan_of(["canary \udcff"])
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_subclass_of_str_is_its_characters():
    """An equality of its own must not make two texts one."""

    class Folded(str):
        def __eq__(self, other):
            return self.lower() == other.lower()

        def __hash__(self):
            return hash(self.lower())

    assert plan_of([Folded("HELLO"), Folded("hello")]).texts == ["HELLO", "hello"]


def test_a_mapping_is_no_list_of_texts():
    with pytest.raises(InputError, match="keys"):
        plan_of({"id": "text"})


def test_an_error_of_the_callers_generator_is_the_callers():
    def texts():
        yield "a"
        raise TypeError("my own bug")

    with pytest.raises(TypeError, match="my own bug"):
        plan_of(texts())


def test_a_prompt_counts_towards_a_batch():
    spec = ModelSpec(
        provider="openai", name="m", native_dimensions=8, matryoshka=False, prompts={"query": "word " * 100}
    )
    plan = plan_of([f"text {i}" for i in range(100)], Packing(1000, 5000), spec, input_type="query")
    assert max(sum(len(text) for text in batch.texts) for batch in plan.batches()) <= 5000
