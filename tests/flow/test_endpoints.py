"""Several who may answer: who is asked, who is left out, and what is kept of whose answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mrlclient import (
    AuthenticationError,
    BadRequestError,
    ProviderConnectionError,
    RateLimitError,
    ServerError,
)
from mrlclient.cache import MemoryCache
from mrlclient.cache.guarded import GuardedCache
from mrlclient.cached import Caching
from mrlclient.endpoints import Endpoint, Health, Route
from mrlclient.flow import embed
from mrlclient.operations import Answer
from mrlclient.testing import ScriptedDriver
from tests.flow.acme import SPEC, Dialect, ScriptedGate, answer, call_of, run, unit, vector


class Named(Dialect):
    """A provider that says who it is in what it sends."""

    def __init__(self, name, spec=SPEC, batch_size=2):
        super().__init__(spec, batch_size)
        self.name = name

    def encode(self, batch):
        return self.name, batch


def route_over(*tiers):
    return Route([[Endpoint(dialect, dialect.name) for dialect in tier] for tier in tiers])


def server(**failing):
    """Answers for everybody, except those who have failures left: `a=[error, ...]`, or one error for ever."""

    def reply(request):
        name, batch = request
        failure = failing.get(name)
        if isinstance(failure, list):
            failure = failure.pop(0) if failure else None
        if failure is not None:
            raise failure
        return answer(batch)

    return reply


def asked(driver):
    return [name for name, _ in driver.sent]


def down(**options):
    return ServerError("down", status=503, retryable=True, **options)


A, B, C = Named("a"), Named("b"), Named("c")


@pytest.mark.parametrize(
    "error",
    [
        down(),
        AuthenticationError("revoked", status=401),
        RateLimitError("later", status=429, retryable=True, retry_after=3000.0),
        BadRequestError("gone", status=410),
        ProviderConnectionError("refused", retryable=True),
    ],
)
def test_the_next_is_asked_at_once(error):
    route = route_over([A], [B], [C])
    result, driver = run(["x"], server(a=error, b=down()), route=route)
    assert asked(driver) == ["a", "b", "c"]
    assert driver.slept == []
    assert result.answered_by == {"c": 1}


def test_all_are_asked_again_after_a_wait():
    result, driver = run(["x"], server(a=[down(), None], b=[down(), None]), route=route_over([A], [B]))
    assert asked(driver) == ["a", "b", "a"]
    assert len(driver.slept) == 1
    assert result.answered_by == {"a": 1}


def test_where_all_fail_the_error_says_most():
    refused = AuthenticationError("revoked", status=401)
    with pytest.raises(ServerError) as caught:
        run(["x"], server(a=down(), b=refused), route=route_over([A], [B]), max_attempts=2)
    assert asked(caught.value.driver) == ["a", "b", "a"], "whose key was refused is not asked again so soon"
    with pytest.raises(AuthenticationError):
        run(["x"], server(a=refused, b=refused), route=route_over([A], [B]))


def test_a_refused_text_is_refused_by_all():
    refusal = BadRequestError("bad", status=400, scope="text")
    with pytest.raises(BadRequestError) as caught:
        run(["x"], server(a=refusal), route=route_over([A], [B]))
    assert asked(caught.value.driver) == ["a"]


def test_one_that_fails_again_and_again_is_left_out_and_comes_back():
    route, driver = route_over([A], [B]), ScriptedDriver(server(a=[down()] * 4))
    who = lambda: (driver.sent.clear(), driver.run(embed(call_of(["x"], route))), asked(driver))[2]  # noqa: E731
    assert [who() for _ in range(3)] == [["a", "b"]] * 3
    assert [who() for _ in range(3)] == [["b"]] * 3
    driver.clock += 31
    assert who() == ["a", "b"], "one request tries it"
    assert who() == ["b"], "it stays out"
    driver.clock += 31
    assert who() == ["b"], "for twice as long"
    driver.clock += 31
    assert [who() for _ in range(3)] == [["a"]] * 3


def test_only_one_request_tries_what_was_out():
    health = Health()
    for _ in range(3):
        health.failed(0.0, down())
    assert [health.is_worth_asking(now) for now in (0.0, 29.9, 30.0)] == [False, False, True]
    health.ask(30.0)
    assert not health.is_worth_asking(31.0)
    assert health.is_worth_asking(61.0), "the one who tried was never heard of again"
    health.succeeded()
    assert health.is_worth_asking(31.0)


def test_where_all_are_out_one_is_asked_all_the_same():
    route = route_over([A], [B])
    driver = ScriptedDriver(server(a=[down()] * 3, b=[down()] * 3))
    for _ in range(3):
        with pytest.raises(ServerError):
            driver.run(embed(call_of(["x"], route, max_attempts=1)))
    driver.sent.clear()
    driver.run(embed(call_of(["x"], route)))
    assert asked(driver) == ["a"]


def test_equals_share_the_work():
    route = route_over([A, B])
    route.main.under_way.add(object())
    result, driver = run(["u", "v", "w", "x"], server(), route=route)
    assert asked(driver) == ["b", "b"]
    assert result.answered_by == {"b": 4}


OTHER = dataclasses.replace(SPEC, name="small", space=SPEC.space, server_dimensions=(4, 8), prompts={"query": "find: "})


def test_another_model_of_the_space_gets_its_own_prompt_width_and_batches():
    small = Named("small", OTHER, batch_size=1)

    def reply(request):
        name, batch = request
        if name == "a":
            raise down()
        return Answer(np.array([vector(text)[: batch.resolution.requested] for text in batch.texts]), 3)

    result, driver = run(["x", "y"], reply, route=route_over([A], [small]), dimensions=3, input_type="query")
    assert asked(driver) == ["a", "small", "a", "small"]
    sent = [batch for name, batch in driver.sent if name == "small"]
    assert [list(batch.texts) for batch in sent] == [["find: x"], ["find: y"]]
    assert {batch.resolution.requested for batch in sent} == {4}
    np.testing.assert_allclose(result.embeddings, unit([vector(f"find: {t}")[:3] for t in "xy"]), atol=1e-6)
    assert (result.answered_by, result.usage.tokens) == ({"small": 2}, 6)


@pytest.mark.parametrize("kept", [True, False])
def test_only_vectors_of_the_main_model_are_kept(kept):
    cache = GuardedCache(MemoryCache())
    other = Named("b", SPEC if kept else OTHER)
    caching = Caching(cache, cache.flights, ("acme",))
    driver = ScriptedDriver(server(a=down()))
    result = driver.run(embed(call_of(["x", "y"], route_over([A], [other])), caching))
    np.testing.assert_allclose(result.embeddings, unit([vector("x"), vector("y")]), atol=1e-6)
    assert cache.cache.stats().entries == (2 if kept else 0)
    assert cache.flights._under_way == {}


def test_a_text_that_is_too_long_for_the_other_model_is_not_cut_there():
    short = Named("small", dataclasses.replace(OTHER, max_input_tokens=5), batch_size=9)
    short.counts_tokens = True
    result, driver = run(["x", "y" * 6, "z"], server(a=down()), route=route_over([A], [short]), on_error="return")
    assert {index: "takes 5" in str(error) for index, error in result.errors.items()} == {1: True}
    assert [text for name, batch in driver.sent if name == "small" for text in batch.texts] == ["x", "z"]


def test_a_bound_of_ours_is_no_failure_of_the_endpoint():
    class Full(Endpoint):
        def __init__(self):
            super().__init__(A, "a", ScriptedGate(requests=1))

    first = Full()
    route = Route([[first], [Endpoint(B, "b")]])
    for _ in range(6):
        driver = ScriptedDriver(server())
        first.gate.driver = driver
        driver.run(embed(call_of(["x"], route, deadline=5.0)))
    assert asked(driver) == ["b"]
    assert first.health.is_worth_asking(0.0)
