"""How many requests of a `Gather` are under way, and what goes on beside them."""

from __future__ import annotations

import threading

import anyio
import pytest

from mrlclient.drivers import AsyncDriver, SyncDriver
from mrlclient.operations import Gather, Send

FACES = ["sync", "asyncio", "trio"]


class Server:
    """A performer that counts the requests under way."""

    def __init__(self, seconds=0.005):
        self.under_way = self.most = self.sent = 0
        self.timeouts = []
        self._seconds = seconds
        self._lock = threading.Lock()

    def _begin(self, timeout):
        with self._lock:
            self.under_way += 1
            self.sent += 1
            self.most = max(self.most, self.under_way)
            self.timeouts.append(timeout)

    def _end(self):
        with self._lock:
            self.under_way -= 1

    def send(self, request, timeout=None):
        self._begin(timeout)
        threading.Event().wait(self._seconds)
        self._end()
        return request

    async def asend(self, request, timeout=None):
        self._begin(timeout)
        await anyio.sleep(self._seconds)
        self._end()
        return request


def run(face, flows, limit):
    def gathered():
        return (yield Gather(flows, limit))

    if face == "sync":
        return SyncDriver().run(gathered())
    return anyio.run(AsyncDriver().run, gathered(), backend=face)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("tries", [1, 2])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_more_requests_than_wanted(limit, tries, face):
    """Flows that send once, and flows that send again."""
    server = Server()

    def flow(i):
        for _ in range(tries):
            reply = yield Send(server, i, 60.0)
        return reply

    assert run(face, (flow(i) for i in range(20)), limit) == list(range(20))
    assert server.sent == 20 * tries
    assert server.most == limit
    # What was waited for a second place is taken from a request's own time.
    assert all(50.0 < left <= 60.0 for left in server.timeouts)


@pytest.mark.parametrize("face", ["sync", "asyncio"])  # trio's tasks take their turns in any order
def test_the_next_request_goes_out_before_an_answer_is_decoded(face):
    server, seen = Server(), []

    def flow(i):
        yield Send(server, i, 60.0)
        if face == "sync":
            # Decoding takes this thread: the third request is sent by another meanwhile.
            for _ in range(1000):
                if server.sent > 2:
                    break
                threading.Event().wait(0.005)
        seen.append(server.sent)

    run(face, (flow(i) for i in range(3)), 2)
    assert seen[0] == 3


@pytest.mark.parametrize("face", FACES)
def test_a_failure_leaves_nobody_waiting(face):
    server = Server()

    def flow(i):
        yield Send(server, i, 60.0)
        raise ValueError(f"flow {i}")

    with pytest.raises(ValueError, match="flow"):
        run(face, (flow(i) for i in range(30)), 3)
    assert server.sent <= 3 + 2


@pytest.mark.parametrize("face", FACES)
def test_flows_that_send_nothing_keep_their_place(face):
    """As where the cache has it all."""

    def flow(i):
        return i
        yield

    assert run(face, (flow(i) for i in range(20)), 3) == list(range(20))
