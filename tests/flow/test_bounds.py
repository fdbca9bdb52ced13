"""Every bound at once: attempts, the deadline, the budget of retries, the limits of the account."""

from __future__ import annotations

import copy
import dataclasses
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import MRLError, ProviderConnectionError, ProviderTimeoutError, RateLimitError, ServerError
from mrlclient.flow import embed
from mrlclient.limits import Quota, Window
from mrlclient.operations import Answer
from mrlclient.pacing import Ticket
from mrlclient.testing import ScriptedDriver
from tests.flow.acme import Dialect, ScriptedGate, answer, call_of, route_to, run, unit, vector


class Server:
    """Answers, or fails as the schedule says; it takes its time."""

    def __init__(self, schedule=(), seconds=0.0):
        self.schedule, self.seconds = list(schedule), seconds
        self.driver = None
        self.answered, self.moments = [], []

    def __call__(self, batch):
        self.moments.append(self.driver.clock)
        self.driver.clock += self.seconds
        failure = self.schedule.pop(0) if self.schedule else None
        if failure is not None:
            # An error of its own, as every answer makes one: calls put notes and results on theirs.
            raise copy.copy(failure)
        self.answered += batch.texts
        return answer(batch)


class Miscounting(Server):
    """Says that each request had a quadrillion tokens."""

    def __call__(self, batch):
        return dataclasses.replace(super().__call__(batch), tokens=10**15)


def go(texts, server, gate=None, **options):
    """Runs with the server's and the gate's clock tied to the driver's."""
    driver = ScriptedDriver(server)
    server.driver = driver
    if gate is not None:
        gate.driver = driver
    try:
        result, error = driver.run(embed(call_of(texts, route_to(Dialect(), gate), **options))), None
    except MRLError as raised:
        result, error = raised.partial, raised
    return result, error, driver


FAILURES = {
    "down": ServerError("down", status=503, retryable=True),
    "busy": RateLimitError("busy", status=429, retryable=True),
    "busy for 7 s": RateLimitError("busy", status=429, retryable=True, retry_after=7.0),
    "busy for an hour": RateLimitError("busy", status=429, retryable=True, retry_after=3600.0),
    "broken": ProviderConnectionError("broken", retryable=True),
    "fatal": ServerError("no", status=501),
    None: None,
}


@given(
    st.lists(st.sampled_from(list(FAILURES)), max_size=30),
    st.integers(1, 12),
    st.integers(1, 6),
    st.floats(0.5, 200.0),
    st.floats(0.0, 20.0),
    st.none() | st.integers(1, 600),
)
def test_any_schedule_keeps_every_bound(schedule, count, max_attempts, deadline, seconds, per_minute):
    """Each text succeeds at most once, waits are as asked, bounds are kept, and what was finished is there."""
    texts = [f"text {i}" for i in range(count)]
    server = Server((FAILURES[name] for name in schedule), seconds)
    gate = ScriptedGate(requests=per_minute)
    result, error, driver = go(texts, server, gate, max_attempts=max_attempts, deadline=deadline)

    assert len(server.answered) == len(set(server.answered)), "each text succeeds at most once"
    for text in server.answered:
        np.testing.assert_allclose(result[texts.index(text)], unit([vector(text)])[0], atol=1e-6)
    if error is None:
        assert set(server.answered) == set(texts)
    else:
        missing = {i for i, text in enumerate(texts) if text not in server.answered}
        assert (set(result.errors) if result else set(range(count))) == missing
    assert len(driver.sent) <= -(-count // 2) * max_attempts
    assert all(0 < each <= deadline * (1 + 1e-9) for each in driver.timeouts), "nothing may outlast the deadline"
    assert all(wait <= max(deadline, 8.0) for wait in driver.slept)
    assert gate.under_way == 0
    assert len(gate.endings) >= len(driver.sent)
    if per_minute:
        for i, moment in enumerate(server.moments):
            later = [each for each in server.moments[i:] if each <= moment + 60.0]
            assert len(later) <= 2 * per_minute + 1


@pytest.mark.parametrize("asked", [0.001, 0.25, 7.0, 59.999])
def test_a_wait_is_kept_to_the_millisecond(asked):
    server = Server([RateLimitError("busy", status=429, retryable=True, retry_after=asked)])
    _, error, _ = go(["a"], server, ScriptedGate())
    assert error is None
    assert server.moments[1] - server.moments[0] == pytest.approx(asked, abs=1e-3)


def test_a_429_makes_everybody_wait_who_uses_the_account():
    gate = ScriptedGate()
    server = Server([None, RateLimitError("busy", status=429, retryable=True, retry_after=7.0)])
    go(["a", "b", "c", "d", "e"], server, gate)
    assert server.moments == [0.0, 0.0, 7.0, 7.0]
    gate = ScriptedGate()
    server = Server([RateLimitError("busy", status=429, retryable=True, retry_after=3600.0)])
    _, error, _ = go(["a"], server, gate)
    assert error.retry_after == 3600.0
    assert gate.paused() == 0.0, "a wait beyond the cap is an error at once, for whoever comes next as well"


@pytest.mark.parametrize("deadline", [1.0, 10.0, 25.0])
def test_the_deadline_covers_attempts_and_waits(deadline):
    server = Server([FAILURES["busy for 7 s"]] * 99, seconds=0.5)
    _, error, driver = go(["a"], server, max_attempts=99, deadline=deadline)
    assert isinstance(error, RateLimitError)
    assert "deadline" in error.__notes__[0]
    assert driver.clock <= deadline
    assert driver.timeouts[-1] == pytest.approx(deadline - server.moments[-1])


def test_the_deadline_covers_the_turn_of_a_request():
    gate = ScriptedGate(requests=60)
    gate.meter.reserve(0.0, 1)
    gate.meter.requests.take(0.0, 120)
    server = Server()
    _, error, driver = go(["a"], server, gate, deadline=5.0)
    assert isinstance(error, RateLimitError)
    assert "after the deadline" in str(error)
    assert driver.sent == []
    assert driver.clock == 0.0, "it is known at once"


def test_a_place_that_does_not_get_free():
    gate = ScriptedGate()
    gate.enter = lambda: Ticket(ready=Future())
    gate.leave = lambda ticket, outcome: gate.endings.append(outcome)
    _, error, driver = go(["a"], Server(), gate, deadline=5.0)
    assert isinstance(error, ProviderTimeoutError)
    assert "this request's turn" in str(error)
    assert driver.sent == []
    assert gate.endings == ["failed"]


def test_an_outage_does_not_multiply_the_traffic():
    """100 retries, and then one for every two calls: 1.5 times the calls, where five attempts would be 5 times."""
    gate = ScriptedGate()
    sent = 0
    for _ in range(1000):
        _, error, driver = go(["a"], Server([FAILURES["down"]] * 9), gate)
        assert isinstance(error, ServerError)
        sent += len(driver.sent)
    assert sent <= 1.5 * 1000 + 100
    assert "too many requests failed lately" in error.__notes__[0]


def test_a_fifth_of_failures_is_sustained():
    gate, chance = ScriptedGate(), np.random.default_rng(0)
    for _ in range(3000):
        failures = [FAILURES["down"] if chance.random() < 0.2 else None for _ in range(9)]
        _, error, _ = go(["a"], Server(failures), gate, max_attempts=9)
        assert error is None


def test_tokens_are_settled_with_what_the_server_counted():
    gate = ScriptedGate(tokens=6000)
    text = "x" * 3000  # a thousand tokens by the estimate
    _, error, driver = go([text], Server(), gate)
    assert error is None
    assert gate.meter.reserve(driver.clock, 5998) == 0.0, "the answer said that it took one"


def test_a_server_that_counts_more_tokens_than_there_can_be_stops_nobody():
    gate = ScriptedGate(tokens=6000)
    result, error, driver = go(["a text"], Miscounting(), gate)
    assert error is None
    assert result.usage.tokens == 10**15
    assert gate.meter.reserve(driver.clock, 5900) == 0.0


def test_what_the_server_says_of_its_limits_is_heeded():
    class Telling(Dialect):
        def quota(self, reply):
            return Quota(Window(limit=60, remaining=0, reset=30), Window())

    gate, server = ScriptedGate(), Server()
    driver = ScriptedDriver(server)
    server.driver = gate.driver = driver
    driver.run(embed(call_of(["a", "b", "c"], route_to(Telling(), gate))))
    assert server.moments == [0.0, 30.0]


def test_how_a_request_ended_is_told_to_the_gate():
    gate = ScriptedGate()
    server = Server([FAILURES["down"], FAILURES["busy"], FAILURES["broken"], None])
    go(["a"], server, gate)
    assert gate.endings == ["limited", "limited", "failed", "ok"]


def test_an_unusable_answer_is_tried_within_its_own_bound():
    bad = lambda batch: Answer(np.full((len(batch.texts), 8), np.nan, np.float32))  # noqa: E731
    with pytest.raises(MRLError) as caught:
        run(["a", "b"], bad, max_attempts=9)
    assert len(caught.value.driver.sent) == 3
