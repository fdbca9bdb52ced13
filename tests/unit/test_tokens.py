import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient.tokens import PROMPT_ALLOWANCE, Sizes, TokenEstimator, token_bound

texts = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1)
KINDS = len(TokenEstimator().careful())
loads = st.lists(st.floats(0, 1e7), min_size=KINDS, max_size=KINDS).filter(lambda load: sum(load) >= 1)


def load_of(**sizes):
    """Bytes of each kind."""
    return [float(sizes.get(kind, 0)) for kind in NAMES]


SCRIPTS = ["greek", "cyrillic", "arabic", "india", "southeast", "east", "emoji"]
NAMES = ["english", "latin", "vietnamese", "dense", *SCRIPTS]
ENGLISH, GREEK = load_of(english=40_000), load_of(greek=40_000)


def sizes_of(given_texts):
    return Sizes(given_texts, [token_bound(text) for text in given_texts])


@given(texts)
def test_loads_are_the_bytes_of_the_texts(given_texts):
    sizes = sizes_of(given_texts)
    assert sum(sizes.load(range(len(given_texts)))) == sum(len(text.encode()) for text in given_texts)
    # One text is weighed without numpy, and comes to the same.
    singles = [sizes.load(range(row, row + 1)) for row in range(len(given_texts))]
    assert sizes.kinds_of(range(len(given_texts))).tolist() == np.argmax(singles, axis=1).tolist()
    some = np.arange(0, len(given_texts), 2)
    assert sizes.load(some) == np.sum(singles[::2], axis=0).tolist()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("A plain English text.", "english"),
        ("def _kind(text: str, size: int) -> int:", "english"),
        ("aGVsbG8gd29ybGQ=", "dense"),
        ('{"id":1,"name":"a"} {"id":2,"name":"b"}', "dense"),
        ("\n" * 80, "dense"),
        ("Der Zug fährt über die Brücke.", "latin"),
        ("Hà Nội là thủ đô của nước Việt Nam", "vietnamese"),
        ("Η Αθήνα είναι πρωτεύουσα", "greek"),
        ("Москва столица России", "cyrillic"),
        ("القاهرة عاصمة مصر", "arabic"),
        ("ירושלים היא עיר", "arabic"),
        ("दिल्ली भारत की राजधानी है", "india"),
        ("กรุงเทพเป็นเมืองหลวง", "southeast"),
        ("東京は日本の首都です", "east"),
        ("서울은 대한민국의 수도이다", "east"),
        ("🦊🐻🐼", "emoji"),
    ],
)
def test_kinds_of_text(text, kind):
    assert sizes_of([text]).load(range(1)) == load_of(**{kind: len(text.encode())})


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_tokens_never_exceed_their_bound(text):
    # A byte-level tokenizer makes a token of each byte at most, and two special tokens.
    assert token_bound(text) == len(text.encode()) + PROMPT_ALLOWANCE >= len(text.encode()) + 2


@given(loads)
def test_at_first_it_is_careful(load):
    estimator = TokenEstimator()
    assert 0.4 * sum(load) <= estimator.expected(load) * (1 + 1e-9)
    assert estimator.expected(load) <= estimator.careful() @ load * (1 + 1e-9)
    assert estimator.careful() @ load <= sum(load) * (1 + 1e-9)


@given(st.lists(st.tuples(loads, st.integers(1, 10**12), st.booleans())))
def test_whatever_a_server_says_it_stays_within_bounds(told):
    estimator = TokenEstimator()
    for load, number, refused in told:
        if refused:
            estimator.refused(load, number, 0.9)
        else:
            estimator.learn(load, number)
        assert 0 < estimator.share <= 1
        assert (estimator.careful() <= 1).all()
        assert 0.05 * sum(load) * (1 - 1e-9) <= estimator.expected(load) <= sum(load) * (1 + 1e-9)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.6, 1.0])
def test_one_answer_puts_it_right(rate):
    estimator = TokenEstimator()
    estimator.learn(ENGLISH, round(40_000 * rate))
    assert estimator.expected(ENGLISH) == pytest.approx(40_000 * rate)
    # Of other kinds it says nothing.
    assert estimator.expected(GREEK) == TokenEstimator().expected(GREEK)


def test_the_margin_is_as_wide_as_answers_differ():
    def margin(*rates):
        estimator = TokenEstimator()
        for rate in rates * 20:
            estimator.learn(ENGLISH, round(40_000 * rate))
        return estimator.careful()[0] / estimator.expected(ENGLISH) * 40_000

    assert margin(0.25) == pytest.approx(math.exp(0.03), abs=0.02)
    assert margin(0.25, 0.3) > margin(0.25, 0.26) > margin(0.25)


def test_more_than_expected_counts_sooner_than_less():
    def after(rate):
        estimator = TokenEstimator()
        for _ in range(10):
            estimator.learn(ENGLISH, 10_000)
        estimator.learn(ENGLISH, round(40_000 * rate))
        return estimator.expected(ENGLISH)

    assert after(0.25 * 1.44) == pytest.approx(10_000 * 1.2, rel=1e-3)
    assert after(0.25 / 1.44) == pytest.approx(10_000 / 1.44**0.2, rel=1e-3)


def test_two_kinds_are_told_apart():
    estimator, random = TokenEstimator(), np.random.default_rng(1)
    for _ in range(100):
        part = float(random.random())
        english, greek = 40_000 * part, 40_000 * (1 - part)
        estimator.learn(load_of(english=english, greek=greek), round(english * 0.2 + greek * 0.5))
    assert estimator.expected(ENGLISH) == pytest.approx(8_000, rel=0.1)
    assert estimator.expected(GREEK) == pytest.approx(20_000, rel=0.1)


def test_a_few_tokens_teach_nothing():
    estimator = TokenEstimator()
    estimator.learn(load_of(english=40), 22)
    assert estimator.expected(ENGLISH) == TokenEstimator().expected(ENGLISH)


def test_a_refusal_that_its_halves_explain_is_over():
    estimator = TokenEstimator()
    estimator.refused(ENGLISH, 18_000, 1.0)
    assert estimator.share == 0.5
    estimator.learn(load_of(english=20_000), 14_000)
    assert estimator.share == 1.0
    assert estimator.careful() @ ENGLISH > 18_000


def test_a_refusal_that_nothing_explains_is_remembered_for_a_while():
    estimator = TokenEstimator()
    for _ in range(10):
        estimator.learn(ENGLISH, 10_000)
    estimator.refused(ENGLISH, 300_000, 0.04)
    shares = []
    for _ in range(100):
        shares.append(estimator.share)
        estimator.learn(load_of(english=20_000), 5_000)
    assert shares[:2] == [0.02, 0.021]
    assert shares == sorted(shares)
    assert estimator.share == 1.0


def test_refusals_of_requests_sent_at_once_count_once():
    estimator = TokenEstimator()
    for _ in range(8):
        estimator.refused(ENGLISH, 18_000, 1.0)
    assert estimator.share == 0.5
