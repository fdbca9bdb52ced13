"""Gates: threads and event loops alike, in the order of asking; whoever leaves, however; and forks."""

from __future__ import annotations

import gc
import itertools
import math
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import anyio
import pytest

from mrlclient import ConfigurationError, Limits
from mrlclient.drivers import _landing
from mrlclient.gates import Gate, gate_for
from mrlclient.limits import Quota, Window, fingerprint_of

_NUMBERS = itertools.count()


@pytest.fixture
def account():
    """An account that no other test uses."""
    origin = "https://api.example.org"
    return origin, fingerprint_of(origin, f"key {next(_NUMBERS)}"), "model"


class Gauge:
    """Counts who is under way."""

    def __init__(self):
        self._lock = threading.Lock()
        self.now = self.most = self.all = 0

    def __enter__(self):
        with self._lock:
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self._lock:
            self.now -= 1


def pass_through(gate, gauge, seconds=0.001):
    ticket = gate.enter()
    try:
        if ticket.ready is not None:
            wait([ticket.ready])
        with gauge:
            time.sleep(seconds)
    finally:
        gate.leave(ticket, "ok")


async def apass_through(gate, gauge, seconds=0.001):
    ticket = gate.enter()
    try:
        if ticket.ready is not None:
            await _landing(ticket.ready)
        with gauge:
            await anyio.sleep(seconds)
    finally:
        gate.leave(ticket, "ok")


def is_free(gate, places):
    """Whether exactly so many get a place at once."""
    tickets = [gate.enter() for _ in range(places + 1)]
    at_once = [ticket.ready is None for ticket in tickets]
    for ticket in tickets:
        gate.leave(ticket, "failed")
    return at_once == [True] * places + [False]


def test_200_threads_are_never_more_than_allowed(account):
    gate, gauge = gate_for(account, Limits(max_in_flight=8)), Gauge()
    with ThreadPoolExecutor(200) as pool:
        for each in [pool.submit(pass_through, gate, gauge) for _ in range(600)]:
            each.result()
    assert (gauge.most, gauge.all, gauge.now) == (8, 600, 0)
    assert is_free(gate, 8)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_threads_and_an_event_loop_share(account, backend):
    gate, gauge = gate_for(account, Limits(max_in_flight=5)), Gauge()

    async def tasks():
        async with anyio.create_task_group() as group:
            for n in range(100):
                group.start_soon(apass_through, gate, gauge)
                if n % 3 == 0:
                    # Given up at once, while it waits or is about to have its place.
                    with anyio.move_on_after(0.0005):
                        await apass_through(gate, gauge)

    with ThreadPoolExecutor(50) as pool:
        threads = [pool.submit(pass_through, gate, gauge) for _ in range(100)]
        anyio.run(tasks, backend=backend)
        for each in threads:
            each.result()
    assert gauge.most == 5
    assert gauge.all >= 200
    assert is_free(gate, 5)


def test_first_come_first_served(account):
    gate = gate_for(account, Limits(max_in_flight=2))
    tickets = [gate.enter() for _ in range(6)]
    assert [ticket.ready is None for ticket in tickets] == [True, True, False, False, False, False]

    def ready():
        return [i for i, ticket in enumerate(tickets) if ticket.ready is not None and ticket.ready.done()]

    gate.leave(tickets[1], "ok")
    assert ready() == [2]
    gate.leave(tickets[3], "failed")  # gave up waiting
    assert ready() == [2]
    gate.leave(tickets[2], "ok")
    assert ready() == [2, 4]
    gate.leave(tickets[4], "failed")  # had its place, and never knew: it goes to the next
    assert ready() == [2, 4, 5]
    for _ in range(2):
        for ticket in tickets:
            gate.leave(ticket, "limited")
    assert tickets[3].ready is not None
    assert not tickets[3].ready.done()


def test_to_leave_again_changes_nothing(account):
    gate = gate_for(account, Limits(max_in_flight=2))
    first, second, third = gate.enter(), gate.enter(), gate.enter()
    for _ in range(3):
        gate.leave(third, "limited")
        gate.leave(first, "ok")
    fourth, fifth = gate.enter(), gate.enter()
    assert (fourth.ready is None, fifth.ready is None) == (True, False)
    for ticket in (second, fourth, fifth):
        gate.leave(ticket, "ok")
    assert is_free(gate, 2)


def test_a_future_that_was_cancelled_is_passed_over(account):
    gate = gate_for(account, Limits(max_in_flight=1))
    first, second, third = gate.enter(), gate.enter(), gate.enter()
    assert second.ready is not None
    assert third.ready is not None
    second.ready.cancel()
    gate.leave(first, "ok")
    assert third.ready.done()
    gate.leave(second, "failed")
    gate.leave(third, "ok")
    assert is_free(gate, 1)


def test_whoever_is_told_may_come_back_at_once(account):
    """A callback that enters and leaves again does not find the lock taken."""
    gate, seen = gate_for(account, Limits(max_in_flight=1)), []
    first, second = gate.enter(), gate.enter()
    assert second.ready is not None

    def told(_):
        gate.leave(second, "ok")
        again = gate.enter()
        seen.append(again.ready)
        gate.leave(again, "ok")

    second.ready.add_done_callback(told)
    gate.leave(first, "ok")
    assert seen == [None]


def test_an_overload_leaves_fewer_places(account):
    gate = gate_for(account, Limits(max_in_flight=8))
    tickets = [gate.enter() for _ in range(8)]
    waiting = gate.enter()
    for ticket in tickets[:4]:
        gate.leave(ticket, "limited")
    assert waiting.ready is not None
    assert not waiting.ready.done()  # 4 places, and 4 are under way
    gate.leave(tickets[4], "failed")
    assert waiting.ready.done()
    for ticket in (*tickets, waiting):
        gate.leave(ticket, "failed")
    assert is_free(gate, 4)


def test_embedders_of_one_account_share_and_the_stricter_counts(account):
    one = gate_for(account, Limits(600, math.inf, 10))
    assert gate_for(account, Limits(60, 1_000, 20)) is one
    assert gate_for(account, Limits(6_000, None, 3)) is one
    assert gate_for((*account[:2], "another"), Limits()) is not one
    assert is_free(one, 3)
    assert (one._meter.requests.limit, one._meter.tokens.limit) == (60, 1_000)


def test_a_gate_lives_as_long_as_it_is_held(account):
    gate = gate_for(account, Limits(max_in_flight=3))
    number = id(gate)
    assert id(gate_for(account, Limits())) == number
    del gate
    gc.collect()
    assert is_free(gate_for(account, Limits(max_in_flight=7)), 7)


def test_two_shared_limits_for_one_account(account):
    gate = gate_for(account, Limits())
    with pytest.raises(ConfigurationError, match="different shared limits") as caught:
        gate_for(account, Limits(shared="valkey://me:hunter2@host"))
    assert "hunter2" not in str(caught.value)
    assert gate is gate_for(account, Limits())


def test_reserving(account):
    gate = gate_for(account, Limits(60, 6_000))
    assert not gate.blocking
    assert gate.reserve(6_000) == 0.0
    assert gate.reserve(100) == pytest.approx(1, abs=0.2)
    gate.give_back(100)
    assert gate.reserve(100) == pytest.approx(1, abs=0.2)
    gate.settle(6_000, 5_000)
    assert gate.reserve(1_000) == pytest.approx(1, abs=0.2)
    gate.settle(1_000, 1_600)  # it took more than was thought
    assert gate.reserve(100) == pytest.approx(8, abs=0.2)
    gate.pause(30)
    assert gate.reserve(1) == pytest.approx(30, abs=0.2)
    assert gate.paused() == pytest.approx(30, abs=0.2)


def test_what_headers_say(account):
    gate = gate_for(account, Limits())
    assert {gate.reserve(10**9) for _ in range(10)} == {0.0}
    gate.observe(Quota(Window(60, 0), Window()))
    assert gate.reserve(1) == pytest.approx(1, abs=0.2)
    assert gate.paused() == 0.0
    gate.observe(Quota(Window(60, 0, 20), Window()))
    assert gate.paused() == pytest.approx(20, abs=0.2)


def test_retries_are_counted_by_all_threads(account):
    gate = gate_for(account, Limits())
    with ThreadPoolExecutor(20) as pool:
        paid = sum(pool.map(lambda _: gate.may_retry(), range(300)))
        assert paid == 100
        list(pool.map(lambda _: gate.first_attempt(), range(60)))
        assert sum(pool.map(lambda _: gate.may_retry(), range(300))) == 30


def test_fingerprints():
    fingerprint = fingerprint_of("https://a", "sk-canary")
    assert "canary" not in fingerprint
    assert fingerprint == fingerprint_of("https://a", "sk-canary")
    others = [("https://b", "sk-canary"), ("https://a", "sk-canarx"), ("https://", "ask-canary"), ("https://as", "k")]
    prints = {fingerprint_of(origin, key) for origin, key in others}
    assert len(prints | {fingerprint}) == 5


#: Forks while another thread is inside the gate, and while tickets are out.
FORK = """
import os, threading
from mrlclient import Limits
from mrlclient import gates
from mrlclient.gates import gate_for

gate = gate_for(("origin", "key", "model"), Limits(max_in_flight=2, requests_per_minute=60))
gate_for(("origin", "key", "model"), Limits(max_in_flight=3, tokens_per_minute=600))
tickets = [gate.enter() for _ in range(3)]
gate.reserve(600)
held, done = threading.Event(), threading.Event()

def hold():
    with gate._lock, gates._registry:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if not child:
    assert gate_for(("origin", "key", "model"), Limits(max_in_flight=2)) is gate
    assert gate.reserve(600) == 0.0, "the child's own"
    assert 50 < gate.reserve(600) < 61, "bounded by who came second, too"
    mine = [gate.enter() for _ in range(3)]
    assert [ticket.ready is None for ticket in mine] == [True, True, False]
    for ticket in tickets:
        gate.leave(ticket, "limited")  # the parent's: no place of the child's, and no evidence
    assert not mine[2].ready.done()
    gate.leave(mine[0], "ok")
    assert mine[2].ready.done()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
done.set()
thread.join()
gate.leave(tickets[0], "ok")
assert tickets[2].ready.done()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_begins_anew():
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_flow_that_the_collector_closes_may_leave(account):
    """It may be closed in a thread that is inside the gate."""
    gate = gate_for(account, Limits(max_in_flight=1))
    ticket = gate.enter()
    with gate._lock:
        gate.leave(ticket, "failed")
    assert is_free(gate, 1)


def test_a_gate_does_not_show_its_account(account):
    assert account[1] not in repr(Gate(account, Limits()))
