"""A provider whose requests are batches and whose replies are answers, and calls of it from a script."""

from __future__ import annotations

import numpy as np

from mrlclient import ModelSpec, ProviderConnectionError
from mrlclient.call import Call
from mrlclient.dimensions import resolve
from mrlclient.endpoints import Endpoint, Route
from mrlclient.flow import embed
from mrlclient.operations import Answer, Policy
from mrlclient.pacing import Concurrency, Meter, RetryBudget, Ticket
from mrlclient.packing import Packing
from mrlclient.plan import make_plan
from mrlclient.retry import RetryPolicy
from mrlclient.testing import ScriptedDriver

SPEC = ModelSpec(
    provider="acme", name="nest", native_dimensions=8, matryoshka=True, server_dimensions="any",
    usd_per_million_tokens=2.0, max_input_tokens=100,
)  # fmt: skip


def vector(text, width=8):
    return np.random.default_rng(list(text.encode())).normal(size=width).astype(np.float32)


class Dialect:
    """A provider whose requests are batches and whose replies are answers."""

    def __init__(self, spec=SPEC, batch_size=2, counts_tokens=False):
        self.spec = spec
        self.packing = Packing(batch_size)
        self.counts_tokens = counts_tokens

    def encode(self, batch):
        return batch

    def decode(self, reply, batch):
        return reply

    def translate(self, failure):
        return ProviderConnectionError("the connection broke", provider="acme", retryable=True)

    def quota(self, reply):
        return None


def answer(batch, **options):
    width = batch.resolution.received
    return Answer(np.array([vector(text)[:width] for text in batch.texts]), tokens=len(batch.texts), **options)


def route_to(dialect, gate=None):
    return Route([[Endpoint(dialect, "acme", gate)]])


def call_of(texts, route, *, dimensions=None, max_attempts=5, deadline=1000.0, on_error="raise", **options):
    main = route.main.provider
    plan = make_plan(main.spec, main.packing, texts, resolve(main.spec, dimensions), **options)
    return Call(plan, route, Policy(RetryPolicy(max_attempts), deadline, 3, "allow"), on_error)


def run(texts, reply=answer, *, dialect=None, route=None, **options):
    """The result and the driver; an error has the driver as its attribute."""
    driver = ScriptedDriver(reply)
    try:
        return driver.run(embed(call_of(texts, route or route_to(dialect or Dialect()), **options))), driver
    except Exception as error:
        error.driver = driver
        raise


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class ScriptedGate:
    """A gate over the same state machines, whose clock is the driver's."""

    blocking = False

    def __init__(self, requests=None, tokens=None, at_once=4):
        self.meter, self.line, self.retries = Meter(requests, tokens), Concurrency(at_once), RetryBudget()
        self.driver = None
        self.endings = []
        self.under_way = 0

    def enter(self):
        ticket = Ticket()
        ticket.line, ticket.number = self.line, self.line.start()
        self.under_way += 1
        return ticket

    def leave(self, ticket, outcome):
        self.under_way -= 1
        self.endings.append(outcome)
        ticket.line.end(ticket.number, outcome)

    def reserve(self, tokens):
        return self.meter.reserve(self.driver.clock, tokens)

    def give_back(self, tokens):
        self.meter.give_back(tokens)

    def settle(self, reserved, used):
        self.meter.settle(reserved, used)

    def observe(self, quota):
        self.meter.observe(self.driver.clock, quota)

    def pause(self, seconds):
        self.meter.pause(self.driver.clock, seconds)

    def paused(self):
        return self.meter.paused(self.driver.clock)

    def first_attempt(self):
        self.retries.deposit()

    def may_retry(self):
        return self.retries.withdraw()
