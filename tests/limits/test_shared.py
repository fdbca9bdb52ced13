"""A limit that processes share, on a real server: never more than its share, by the server's clock, and its loss."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mrlclient import ConfigurationError, LimiterWarning, Limits
from mrlclient._shared_bucket import SharedBucket
from mrlclient.gates import gate_for
from mrlclient.limits import Quota, Window, fingerprint_of
from mrlclient.pacing import Meter

_NUMBERS = itertools.count()


@pytest.fixture
def account():
    """An account that no other test uses."""
    origin = "https://api.example.org"
    return origin, fingerprint_of(origin, f"sk-canary {next(_NUMBERS)}"), "model"


@pytest.fixture
def raw(server):
    """The server itself, as another client sees it."""
    with server.client() as client:
        yield client


@pytest.fixture
def empty_server(start_server):
    """A server of this test's own."""
    server = start_server()
    yield server
    if server.is_running():
        server.stop()


def address(server):
    return f"unix://{server.unix_socket_path}"


def processes(url, aheads, seconds, requests, tokens):
    """Runs a process for each of `aheads` at once. Returns when they began, and what went, in order."""
    taker = Path(__file__).with_name("_taker.py")
    root = str(taker.parents[2])
    takers = [
        subprocess.Popen(
            [sys.executable, str(taker), url, str(seed), *map(str, (seconds, requests, tokens, ahead))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": root},
        )
        for seed, ahead in enumerate(aheads)
    ]
    for each in takers:
        assert each.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for each in takers:
        each.stdin.write("\n")
        each.stdin.flush()
    went = []
    for each in takers:
        output, _ = each.communicate(timeout=seconds + 60)
        assert each.returncode == 0
        went.append([(float(at), int(tokens)) for at, tokens in map(str.split, output.splitlines())])
    return began, went


def check_share(began, went, requests, tokens):
    """By every moment, no more went than limit x minutes + limit; and in the end hardly less.

    One request more is allowed for two clocks that do not run at quite the same speed.
    """
    everything = sorted(itertools.chain(*went))
    sent = used = returned = 0
    for at, amount in everything:
        minutes = (at - began) / 60
        if amount > 0:
            sent += 1
            used += amount
            assert sent <= requests + requests * minutes + 1
        else:
            returned -= amount
        # Each request knows only what was returned before it was granted, which is no more than up to now.
        assert used <= tokens + tokens * minutes + returned + 20
    minutes = (everything[-1][0] - began) / 60
    return sent / (requests + requests * minutes), (used - returned) / (tokens + tokens * minutes)


def test_four_processes_never_get_more_than_their_share(empty_server):
    """One of them is an hour ahead, one an hour behind."""
    began, went = processes(address(empty_server), [0, 3_600, 0, -3_600], 2.5, 900, 10**6)
    requests_used, _ = check_share(began, went, 900, 10**6)
    assert requests_used > 0.95
    assert all(len(each) > 50 for each in went)  # nobody was left out, whatever its clock


def test_tokens_are_shared_likewise(empty_server):
    began, went = processes(address(empty_server), [0, 3_600, 0, 0], 2.5, 10**6, 6_000)
    _, tokens_used = check_share(began, went, 10**6, 6_000)
    assert tokens_used > 0.9


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("requests", "tokens"), [(300, 10**6), (10**6, 3_000), (600, 6_000)])
def test_eight_processes_for_half_a_minute(empty_server, requests, tokens):
    began, went = processes(address(empty_server), [0, 3_600, -3_600, 7, 0, 0, 0, 0], 30, requests, tokens)
    assert max(check_share(began, went, requests, tokens)) > 0.9


def test_the_server_grants_what_a_meter_grants(url, account):
    """The script and the state machine are one rule: requests, tokens, large ones, and what is given back."""
    choose = random.Random(5)
    shared, meter, began = SharedBucket(url, account), Meter(120, 3_000), time.monotonic()
    largest = 0.0
    for _ in range(300):
        tokens = choose.choice([0, 1, 30, 100, 4_000 if choose.random() < 0.05 else 7])
        now = time.monotonic()
        expected = meter.reserve(now, tokens)
        assert shared.reserve(tokens, 120, 3_000) == pytest.approx(expected, abs=0.01 + time.monotonic() - began)
        largest = max(largest, expected)
        if choose.random() < 0.3:
            meter.give_back(tokens)
            shared.give_back(tokens)
    assert largest > 100


def test_whoever_asks_does_not_wait_for_those_who_gave_up(url, account):
    shared = SharedBucket(url, account)
    waits = [shared.reserve(100, 3, 1_000) for _ in range(30)]
    assert waits[-1] == pytest.approx(540, abs=0.5)
    for _ in range(27):
        shared.give_back(100)
    assert shared.reserve(100, 3, 1_000) == pytest.approx(20, abs=0.5)


def test_processes_with_different_limits_do_not_raise_each_others(url, account):
    first, second = SharedBucket(url, account), SharedBucket(url, account)
    assert [first.reserve(0, 10, math.inf) for _ in range(10)] == [0.0] * 10
    # What the higher limit allows beyond comes once, however often the two take turns.
    assert [(second.reserve(0, 20, math.inf), first.reserve(0, 10, math.inf)) for _ in range(5)] == [(0.0, 0.0)] * 5
    assert second.reserve(0, 20, math.inf) > 2


def test_limits_that_change(url, account):
    first, second = SharedBucket(url, account), SharedBucket(url, account)
    assert second.reserve(1, math.inf, math.inf) == 0.0  # nobody knows a limit yet
    assert [first.reserve(1, 3, math.inf) for _ in range(3)] == [0.0] * 3
    assert second.reserve(1, math.inf, math.inf) == pytest.approx(20, abs=0.5)  # who knows none is told
    assert first.reserve(1, 60, math.inf) == pytest.approx(20, abs=0.5)  # more is allowed now, after those who wait
    assert first.reserve(50, 60, math.inf) == pytest.approx(20, abs=0.5)
    assert second.reserve(1, 6, math.inf) == pytest.approx(20, abs=0.5)
    # Of 6, four go at 20 by now.
    assert [second.reserve(1, 6, math.inf) for _ in range(6)][-1] == pytest.approx(60, abs=0.5)


def test_what_one_process_hears_counts_for_all(url, account):
    gate = gate_for(account, Limits(shared=url))
    assert gate.blocking
    assert gate.reserve(10) == 0.0
    gate.observe(Quota(Window(60, 60), Window(600, 600)))
    other = SharedBucket(url, account)
    assert gate.reserve(500) == 0.0
    assert other.reserve(200, math.inf, math.inf) == pytest.approx(10, abs=0.5)
    gate.give_back(500)
    gate.settle(300, 200)
    assert gate.reserve(100) == pytest.approx(10, abs=0.5)  # after the other, though there is enough now
    assert other.reserve(510, math.inf, math.inf) == pytest.approx(10 + 21, abs=0.5)  # of 600, 300 are left at 10


def test_nothing_of_the_account_is_on_the_server(empty_server, account):
    gate = gate_for(account, Limits(60, 600, shared=address(empty_server)))
    gate.reserve(600)
    with empty_server.client() as raw:
        names = list(raw.scan_iter("*"))
        assert len(names) == 1
        assert names[0].startswith(b"mrlclient:limit:")
        shown = b" ".join([names[0], *raw.hgetall(names[0]).keys(), *raw.hgetall(names[0]).values()]).decode()
        assert 60 < raw.ttl(names[0]) <= 70  # as long as it takes to be full again
    assert not any(part in shown for part in (*account, "canary", "example"))
    for _ in range(2):
        gate.reserve(600)
    with empty_server.client() as raw:
        assert 180 < raw.ttl(names[0]) <= 190


def test_many_threads_take_from_one_gate(url, account):
    gate = gate_for(account, Limits(600, shared=url))
    with ThreadPoolExecutor(16) as pool:
        waits = sorted(pool.map(lambda _: gate.reserve(1), range(700)))
    assert sum(wait == 0.0 for wait in waits) <= 600 + 20
    assert waits[-1] == pytest.approx(10, abs=1)


def test_a_script_that_the_server_lost(url, account, raw):
    shared = SharedBucket(url, account)
    assert shared.reserve(1, 1, math.inf) == 0.0
    raw.script_flush()
    assert shared.reserve(1, 1, math.inf) == pytest.approx(60, abs=0.5)


def test_a_server_that_goes_and_comes_back(empty_server, account, monkeypatch):
    gate = gate_for(account, Limits(60, shared=address(empty_server)))
    assert {gate.reserve(1) for _ in range(50)} == {0.0}
    empty_server.stop()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        waits = [gate.reserve(1) for _ in range(30)]
    # What went before counts here, too.
    assert waits[:10] == [0.0] * 10
    assert waits[-1] == pytest.approx(20, abs=1)
    assert [each.category for each in caught] == [LimiterWarning]
    assert caught[0].filename == __file__
    assert "left out for 30 s" in str(caught[0].message)
    empty_server.start()
    monkeypatch.setattr(gate._shared, "_rests_until", 0.0)
    gate.reserve(1)
    with empty_server.client() as raw:
        assert raw.dbsize() == 1


def test_a_server_that_does_not_answer(empty_server, account, monkeypatch):
    monkeypatch.setattr("mrlclient._shared_bucket._TIMEOUT", 0.1)
    gate = gate_for(account, Limits(60, shared=address(empty_server)))
    gate.reserve(1)
    with empty_server.client() as raw:
        raw.client_pause(1_000)
    began = time.monotonic()
    with pytest.warns(LimiterWarning, match="TimeoutError"):
        assert gate.reserve(1) == 0.0
    assert gate.reserve(1) == 0.0
    assert time.monotonic() - began < 0.9


def test_a_password_is_not_in_the_warning(raw, url, account):
    raw.acl_setuser("limited", enabled=True, reset=True, passwords=["+right"], categories=["+@all"], keys=["*"])
    gate = gate_for(account, Limits(shared=url.replace("unix://", "unix://limited:hunter2@")))
    with pytest.warns(LimiterWarning) as caught:
        gate.reserve(1)
    assert "hunter2" not in f"{caught[0].message} {gate!r} {vars(gate)!r} {vars(gate._shared)!r}"


def test_an_address_that_cannot_be_used(account):
    with pytest.raises(ConfigurationError) as caught:
        gate_for(account, Limits(shared="redis://:hunter2@host:port/0"))
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


def test_missing_package():
    code = (
        "import sys; sys.modules['valkey'] = None\n"
        "from mrlclient import Limits\nfrom mrlclient.gates import gate_for\n"
        "gate_for(('a',), Limits(shared='redis://host'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'mrlclient[redis]'")
    assert "MissingExtraError" in done.stderr


#: Uses the shared limit before a fork, and on both sides of it.
FORK = """
import os, sys
from mrlclient import Limits
from mrlclient.gates import gate_for

gate = gate_for(("origin", "key", "model"), Limits(60, shared=sys.argv[1]))
assert gate.reserve(1) == 0.0
gate.give_back(1)
child = os.fork()
waits = [gate.reserve(1) for _ in range(40)]
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    wait = gate.reserve(1)
    assert 19 < wait < 21, wait  # 80 of 60 went, whoever asked: the one given back was given back once
"""


def test_a_fork_goes_on_sharing(empty_server):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, address(empty_server)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
