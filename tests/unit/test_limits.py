"""The state machines: what a bucket grants, what a server may correct, how many at once, and how many retries."""

from __future__ import annotations

import math
import pickle
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import ConfigurationError, Limits
from mrlclient.limits import Quota, Window, parse_duration, parse_quota
from mrlclient.pacing import Bucket, Concurrency, Meter, RetryBudget

SECRET = "hunter2+canary"

gaps = st.floats(0, 30)
limits = st.one_of(st.none(), st.floats(0.5, 5_000))
#: What is asked for, after how long.
schedules = st.lists(st.tuples(st.one_of(st.just(0.0), gaps), st.integers(0, 4_000)), min_size=1, max_size=60)


def overdraft(grants, per_minute):
    """By how much the worst stretch of time exceeds limit x minutes + limit: what a full bucket would be short of."""
    level, at, worst = per_minute, grants[0][0], 0.0
    for time, amount in grants:
        level = min(per_minute, level + (time - at) * per_minute / 60) - amount
        at, worst = time, min(worst, level)
    return -worst


def run(meter, schedule, corrections=()):
    """When each of a schedule goes, and how many tokens it takes; corrections come in between."""
    now, grants, corrections = 0.0, [], list(corrections)
    for gap, tokens in schedule:
        now += gap
        if corrections:
            meter.observe(now, corrections.pop())
        wait = meter.reserve(now, tokens)
        assert wait >= 0
        grants.append((now + wait, tokens))
    return grants


# --- the bucket


def in_order(grants):
    """Whether nobody goes before who asked earlier, but for the last digits of a float."""
    times = [time for time, _ in grants]
    return all(later >= earlier * (1 - 1e-12) for earlier, later in pairwise(times))


@given(schedules, limits, limits)
def test_no_stretch_of_time_gets_more_than_its_share(schedule, requests, tokens):
    schedule = [(gap, amount if tokens is None else min(amount, tokens)) for gap, amount in schedule]
    grants = run(Meter(requests, tokens), schedule)
    assert in_order(grants)  # who asks first goes first
    if requests is not None and requests >= 1:
        assert overdraft([(time, 1) for time, _ in grants], requests) <= 1e-6 * requests
    if tokens is not None:
        assert overdraft(grants, tokens) <= 1e-6 * tokens


windows = st.builds(
    Window, *[st.one_of(st.none(), st.floats(low, high)) for low, high in ((1, 10_000), (0, 10_000), (0, 200))]
)


@given(schedules, st.floats(1, 5_000), st.floats(1, 5_000), st.lists(st.builds(Quota, windows, windows), max_size=60))
def test_no_server_makes_it_exceed_what_was_configured(schedule, requests, tokens, corrections):
    # A request above the server's limit would go alone, once the bucket is full: that is another test's.
    lowest = min([tokens, *(each.tokens.limit for each in corrections if each.tokens.limit is not None)])
    schedule = [(gap, min(amount, lowest)) for gap, amount in schedule]
    grants = run(Meter(requests, tokens), schedule, corrections)
    assert in_order(grants)
    assert overdraft([(time, 1) for time, _ in grants], requests) <= 1e-6 * requests
    assert overdraft(grants, tokens) <= 1e-6 * tokens


@given(schedules, st.floats(100, 5_000))
def test_nobody_waits_longer_than_the_limit_asks(schedule, tokens):
    """Where somebody waits, there is a stretch of time up to that moment whose share is used up."""
    grants = []
    meter, now = Meter(None, tokens), 0.0
    for gap, asked in schedule:
        amount = min(max(asked, 1), tokens)
        now += gap
        wait = meter.reserve(now, amount)
        grants.append((now + wait, amount))
        if wait > 1e-6:
            used, fullest = 0.0, -math.inf
            for time, taken in reversed(grants):
                used += taken
                fullest = max(fullest, used - (now + wait - time) * tokens / 60)
            assert fullest == pytest.approx(tokens, rel=1e-6)


@given(schedules, st.lists(st.integers(0, 4_000), min_size=60, max_size=60))
def test_what_is_given_back_is_all_that_is_had_beyond(schedule, backs):
    meter, limit, now, grants, given_back = Meter(None, 1_000), 1_000, 0.0, [], 0
    for (gap, asked), back in zip(schedule, backs, strict=False):
        now += gap
        amount = min(asked, limit)
        grants.append((now + meter.reserve(now, amount), amount))
        meter.settle(amount, amount - min(back, amount))
        given_back += min(back, amount)
        assert overdraft(grants, limit) <= given_back + 1e-6
    assert sum(amount for _, amount in grants) - given_back <= limit + grants[-1][0] * limit / 60 + 1e-6


def test_a_bucket_in_numbers():
    meter = Meter(60, None)
    assert [meter.reserve(0, 5) for _ in range(60)] == [0] * 60
    assert [meter.reserve(0, 5) for _ in range(3)] == [1, 2, 3]
    assert meter.reserve(1, 5) == 3  # who waits stays before it
    meter.give_back(5)
    assert meter.reserve(1, 5) == 3
    assert meter.reserve(1_000, 5) == 0


def test_whoever_asks_does_not_wait_for_those_who_gave_up():
    meter = Meter(3, 1_000)
    assert [meter.reserve(0, 100) for _ in range(30)][-1] == 540
    for _ in range(27):
        meter.give_back(100)
    assert meter.reserve(5, 100) == pytest.approx(15)
    assert Meter(3, 1_000).reserve(0, 100) == 0


@given(schedules, limits, st.floats(1, 5_000))
def test_as_if_those_who_gave_up_had_never_asked(schedule, requests, tokens):
    meter, without, now = Meter(requests, tokens), Meter(requests, tokens), 0.0
    for gap, asked in schedule:
        now += gap
        waits = [meter.reserve(now, min(asked, tokens)) for _ in range(3)]
        for wait in waits:
            if wait > 0:
                meter.give_back(min(asked, tokens))
            else:
                assert without.reserve(now, min(asked, tokens)) == 0
        # A look, which leaves no trace either.
        wait = meter.reserve(now, 1)
        assert wait == pytest.approx(without.reserve(now, 1), rel=1e-9, abs=1e-9)
        if wait > 0:
            meter.give_back(1)
            without.give_back(1)


def test_a_limit_that_comes_and_goes_gives_nothing_away():
    bucket = Bucket(1_000)
    for _ in range(10):
        bucket.take(0, 100)
    for _ in range(5):
        bucket.observe(0, Window(100))
        bucket.observe(0, Window(1_000))
        assert bucket.ready_at(0, 100) == 6


def test_a_request_above_the_limit_goes_alone_when_the_bucket_is_full():
    meter = Meter(None, 600)
    assert meter.reserve(0, 60) == 0
    assert meter.reserve(0, 1_500) == 6  # full again
    assert meter.reserve(0, 60) == 6 + (900 + 60) / 10
    assert Meter(0.5, None).reserve(0, 1) == 0


def test_both_limits_are_taken_from_at_one_moment():
    """A request that waits for tokens takes its place among the requests when it goes, not when it asks."""
    meter = Meter(60, 600)
    assert meter.reserve(0, 600) == 0
    waits = [meter.reserve(0, 600 if first else 0) for first in (True, *[False] * 70)]
    assert waits[:60] == [60] * 60
    assert waits[60:] == [pytest.approx(60 + n) for n in range(1, 12)]


def test_no_limits():
    for meter in (Meter(), Meter(math.inf, math.inf)):
        assert {meter.reserve(0, 10**9) for _ in range(1_000)} == {0}


# --- what the server says


def test_the_servers_limits_are_taken_where_none_is_known():
    meter = Meter()
    meter.observe(0, Quota(Window(60, 2), Window(6_000, 6_000)))
    assert [meter.reserve(0, 10) for _ in range(4)] == [0, 0, 1, 2]
    assert meter.requests.limit == 60
    assert Meter(None, 500).tokens.limit == 500


def test_what_remains_is_believed_only_where_it_is_less():
    meter = Meter(60, None)
    for _ in range(60):
        meter.reserve(0, 1)
    meter.observe(0, Quota(Window(60, 50)))
    assert meter.reserve(0, 1) == 1
    meter = Meter(60, None)
    meter.observe(0, Quota(Window(60, 1)))
    assert [meter.reserve(0, 1) for _ in range(3)] == [0, 1, 2]
    meter.observe(5, Quota(Window(60, 0)))
    assert meter.reserve(5, 1) == 1
    meter.observe(5, Quota(Window(60, 0)))  # with somebody waiting until 6
    assert meter.reserve(5, 1) == 2


def test_another_limit_replaces_the_old_one_but_never_what_was_configured():
    bucket = Bucket()
    bucket.observe(0, Window(60))
    for _ in range(60):
        bucket.take(0, 1)
    bucket.observe(0, Window(600, 540))  # the account was raised
    assert (bucket.limit, bucket.ready_at(0, 540), bucket.ready_at(0, 550)) == (600, 0, 1)
    bucket.observe(0, Window(6))
    assert (bucket.limit, bucket.ready_at(0, 6)) == (6, 0)
    configured = Bucket(100)
    configured.observe(0, Window(600, 600))
    assert (configured.limit, configured.ready_at(0, 100)) == (100, 0)
    unlimited = Bucket(math.inf)
    assert unlimited.observe(0, Window(60, 0, 20)) == 0
    assert (unlimited.limit, unlimited.ready_at(0, 10**9)) == (math.inf, 0)


def test_a_limit_that_rises_pays_nothing_for_the_time_before():
    bucket = Bucket()
    bucket.observe(0, Window(60))
    for _ in range(60):
        bucket.take(0, 1)
    bucket.observe(30, Window(600))
    assert bucket.ready_at(30, 30 + 540) == 30
    assert bucket.ready_at(30, 30 + 540 + 10) == pytest.approx(31)


@pytest.mark.parametrize(
    ("reset", "wait"),
    [
        (20, 20),  # a fixed window: nothing before the next
        (3_600, 60),  # and no longer than a minute, whatever it says
        (60, 1),  # an even refill: the next is there long before all of it
        (59.1, 1),
        (None, 1),
    ],
)
def test_nothing_is_left(reset, wait):
    meter = Meter(60, None)
    meter.observe(0, Quota(Window(60, 0, reset)))
    assert meter.reserve(0, 1) == wait


def test_a_small_limit_is_rounded_down_by_its_server():
    """Of 3 a minute, 0.9 remain: the server says 0, and that all are there in 42 s."""
    meter = Meter(3, None)
    meter.observe(0, Quota(Window(3, 0, 42)))
    assert meter.reserve(0, 1) == 20


def test_a_pause_holds_everybody():
    meter = Meter(60, None)
    meter.pause(0, 10)
    meter.pause(0, 3)
    assert [meter.reserve(0, 1), meter.reserve(4, 1), meter.reserve(10, 1)] == [10, 6, 0]
    assert [meter.paused(4), meter.paused(10), meter.paused(11)] == [6, 0, 0]


def test_the_stricter_counts():
    bucket = Bucket()
    bucket.bound(60)
    bucket.bound(600)
    bucket.bound(math.inf)
    bucket.bound(None)
    assert bucket.limit == 60
    bucket = Bucket(math.inf)
    bucket.bound(None)  # who hears the server
    bucket.observe(0, Window(60))
    assert bucket.limit == 60


# --- how many at once


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["ok", "limited", "failed"]))))
def test_concurrency_stays_within_its_bounds(ceiling, steps):
    line, under_way, choose = Concurrency(ceiling), [], random.Random(7)
    for starts, ending in steps:
        under_way += [line.start() for _ in range(starts) if line.has_room]
        before = line.limit
        if under_way:
            line.end(under_way.pop(choose.randrange(len(under_way))), ending)
        assert 1 <= line.limit <= ceiling
        assert line.in_flight == len(under_way)
        assert line.limit - before <= 1 if ending == "ok" else line.limit <= before
        assert line.has_room or under_way  # never shut for good


def full(line):
    numbers = []
    while line.has_room:
        numbers.append(line.start())
    return numbers


def test_one_decrease_a_round():
    line = Concurrency(64)
    first = full(line)
    for number in first[:50]:
        line.end(number, "limited")
    assert line.limit == 32
    second = full(line)
    for number in first[50:]:
        line.end(number, "limited")  # sent before the limit fell
    assert line.limit == 32
    second += full(line)
    line.end(second[0], "limited")
    assert line.limit == 16


def test_half_of_what_was_under_way():
    line = Concurrency(64)
    numbers = [line.start() for _ in range(8)]
    line.end(numbers[0], "limited")
    assert line.limit == 4


def test_a_round_of_successes_adds_about_one():
    line = Concurrency(64)
    for number in full(line):
        line.end(number, "limited")
    assert line.limit == 32
    under_way = full(line)
    for round_ in range(1, 11):
        for _ in range(int(line.limit)):
            line.end(under_way.pop(0), "ok")
            under_way += full(line)
        assert line.limit == pytest.approx(32 + round_, abs=0.5)


def test_what_is_not_used_does_not_grow():
    line = Concurrency(64)
    numbers = full(line)
    line.end(numbers[0], "limited")
    for number in numbers[1:]:
        line.end(number, "failed")
    assert line.limit == 32
    for _ in range(1_000):
        line.end(line.start(), "ok")
    assert line.limit == 32


def test_an_idle_limit_of_one_comes_back():
    line = Concurrency(8)
    line.end(line.start(), "limited")
    assert line.limit == 1
    for _ in range(100):
        for number in full(line):
            line.end(number, "ok")
    assert line.limit == 8


# --- retries


@given(st.lists(st.booleans(), max_size=2_000))
def test_retries_are_half_of_the_first_attempts_and_a_hundred(steps):
    budget, first, retries = RetryBudget(), 0, 0
    for is_first in steps:
        if is_first:
            budget.deposit()
            first += 1
        else:
            retries += budget.withdraw()
        assert retries <= 100 + first / 2


@pytest.mark.parametrize("requests", [1, 10, 100, 1_000, 100_000])
def test_a_lasting_outage_is_not_multiplied(requests):
    """Each request may be tried five times, and every attempt fails."""
    budget, sent = RetryBudget(), 0
    for _ in range(requests):
        budget.deposit()
        sent += 1
        for _ in range(4):
            if not budget.withdraw():
                break
            sent += 1
    assert sent <= 1.5 * requests + 100
    assert sent >= 1.5 * requests


def test_one_failure_in_five_is_retried_for_ever():
    budget, choose = RetryBudget(), random.Random(3)
    for _ in range(50_000):
        budget.deposit()
        while choose.random() < 0.2:
            assert budget.withdraw()


# --- what is said


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("6m0s", 360),
        ("1s", 1),
        ("522ms", 0.522),
        ("1h2m3.5s", 3723.5),
        ("0s", 0),
        (" 2m59.56s ", 179.56),
        ("7", 7),
        ("0.25", 0.25),
        ("0", 0),
    ],
)
def test_durations(said, seconds):
    assert parse_duration(said) == pytest.approx(seconds)


NONSENSE = [None, "", " ", "s", "-1s", "-1", "+1", "nan", "inf", "1e400", "9" * 400, "9" * 400 + "s", "1 s", "1x"]
NONSENSE += ["1s2", "1d", "١s", "١", "1_000", "0x10", "1,000", ".5", "5.", "2026-01-01T00:00:00Z", "1m;drop"]


@pytest.mark.parametrize("said", NONSENSE)
def test_nonsense(said):
    assert parse_duration(said) is None
    if said is not None:
        assert parse_quota({f"x-ratelimit-{what}-tokens": said for what in ("limit", "remaining", "reset")}) is None


@given(st.text())
def test_whatever_is_said_is_a_number_or_nothing(said):
    seconds = parse_duration(said)
    assert seconds is None or 0 <= seconds < math.inf


def test_headers():
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert parse_quota(headers) == Quota(Window(60, 59, 1), Window(150_000, 149_984, 360))
    assert parse_quota({"x-ratelimit-remaining-tokens": "0"}) == Quota(Window(), Window(None, 0, None))
    assert parse_quota({"x-ratelimit-limit-tokens": "0"}) is None
    assert parse_quota({"content-type": "application/json"}) is None


# --- what you say


def test_limits_pickle_and_do_not_show_a_password():
    given_limits = Limits(60, math.inf, 8, f"valkey://me:{SECRET}@host:6379/0")
    assert pickle.loads(pickle.dumps(given_limits)) == given_limits
    assert repr(given_limits) == "Limits(requests_per_minute=60, tokens_per_minute=inf, max_in_flight=8)"
    assert Limits() == Limits(None, None, 64, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests_per_minute": 0},
        {"requests_per_minute": -1},
        {"tokens_per_minute": math.nan},
        {"tokens_per_minute": "100"},
        {"tokens_per_minute": True},
        {"max_in_flight": 0},
        {"max_in_flight": 2.5},
        {"max_in_flight": True},
        {"shared": ""},
        {"shared": f"http://:{SECRET}@host"},
        {"shared": f"redis://[{SECRET}"},
        {"shared": SECRET},
        {"shared": SECRET.encode()},
    ],
)
def test_wrong_limits(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))) as caught:
        Limits(**wrong)
    error = caught.value
    assert SECRET not in f"{error} {error.__cause__} {error.__context__}"
