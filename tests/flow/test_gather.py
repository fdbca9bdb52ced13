"""`Gather` takes its flows one by one, as there is room for them."""

from __future__ import annotations

import threading
import time

import anyio
import pytest

from mrlclient.drivers import AsyncDriver, SyncDriver
from mrlclient.operations import Gather, Sleep
from mrlclient.testing import ScriptedDriver

everywhere = pytest.mark.parametrize("backend", ["sync", "asyncio", "trio", "script"])


def run(backend, flow):
    if backend == "sync":
        return SyncDriver().run(flow)
    if backend == "script":
        return ScriptedDriver(lambda request: None).run(flow)
    return anyio.run(AsyncDriver().run, flow, backend=backend)


def gathered(flows, limit):
    return (yield Gather(flows, limit))


@everywhere
@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_a_generator_of_flows(backend, limit, n):
    made, ended = [], []

    def one(i):
        yield Sleep(0.002 * (i % 3))
        ended.append(i)
        return i

    def flows():
        for i in range(n):
            # Beside those that may have a request under way, two others may decode.
            most = limit if limit == 1 or backend == "script" else limit + 2
            assert len(made) - len(ended) <= most, "a flow was made that nobody had room for"
            made.append(i)
            yield one(i)

    assert run(backend, gathered(flows(), limit)) == list(range(n))
    assert made == list(range(n))


def test_a_generator_is_entered_by_one_thread_at_a_time():
    entered = []

    def one(i):
        yield Sleep(0)
        return i

    def flows():
        for i in range(60):
            entered.append(None)
            time.sleep(0.001)
            assert len(entered) == 1
            entered.pop()
            yield one(i)

    assert run("sync", gathered(flows(), 8)) == list(range(60))


@everywhere
def test_one_flow_takes_no_thread(backend):
    def one():
        yield Sleep(0)
        return threading.get_ident()

    assert run(backend, gathered((one() for _ in range(1)), 4)) == [threading.get_ident()]


@everywhere
@pytest.mark.parametrize("place", ["the generator", "a flow"])
def test_a_failure_stops_the_generator(backend, place):
    made = []

    def one(i):
        yield Sleep(0.001)
        if place == "a flow" and i == 5:
            raise ZeroDivisionError
        return i

    def flows():
        for i in range(1000):
            if place == "the generator" and i == 5:
                raise ZeroDivisionError
            made.append(i)
            yield one(i)

    with pytest.raises(ZeroDivisionError):
        run(backend, gathered(flows(), 3))
    assert len(made) < 30
