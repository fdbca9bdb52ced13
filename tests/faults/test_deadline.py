"""N4: the deadline of an embedder. A request ends with it, whatever attempts, waits and bodies were still to come."""

from __future__ import annotations

import math
import time

import pytest

from mrlclient import ConfigurationError, Embedder, ModelSpec, OpenAI, ProviderError
from mrlclient.testing.emulator import Fault
from tests.faults.matrix import embed, openai_at, provider_at
from tests.faults.server import serving
from tests.faults.test_slowness import GRACE, slow_chunks

DEADLINE = 0.4


def seconds_of(embedder, face):
    """How long it takes to fail."""
    started = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        embed(embedder, face, ["a"])
    assert caught.value.__context__ is None
    return time.monotonic() - started


@pytest.mark.parametrize(
    "fault",
    [
        Fault(delay=30.0),
        Fault(stall=30.0),
        Fault(dribble=0.02),
        Fault(close="before"),
        Fault(status=503),
        Fault(status=503, delay=0.3),
        Fault(status=429, headers={"retry-after": "0.3"}),
        Fault(status=429, headers={"retry-after": "30"}),
        Fault(status=200, body=b"{}", delay=0.3),
    ],
    ids=[
        "no answer",
        "half a body",
        "a slow body",
        "ended",
        "503",
        "a slow 503",
        "a wait",
        "a long wait",
        "no vectors",
    ],
)
def test_a_request_ends_with_it(fault, face, emulator):
    emulator.faults.extend([fault] * 1000)
    with Embedder(provider_at(emulator, "openai", 60.0), deadline=DEADLINE, max_attempts=1000) as embedder:
        assert seconds_of(embedder, face) <= DEADLINE + GRACE


def test_a_body_without_end(face):
    with (
        serving(slow_chunks) as server,
        Embedder(openai_at(server.url, 60.0), deadline=DEADLINE, max_attempts=99) as embedder,
    ):
        assert seconds_of(embedder, face) <= DEADLINE + GRACE


def test_the_timeout_bounds_an_attempt_within_it(face, emulator):
    """A short timeout leaves room for another attempt."""
    emulator.faults.append(Fault(delay=30.0))
    with Embedder(provider_at(emulator, "openai", 0.3), deadline=30.0) as embedder:
        embed(embedder, face, ["a"])
    assert len(emulator.requests) == 2


def test_each_request_has_its_own(face, emulator):
    """Many short requests may take longer than one may."""
    emulator.faults.extend([Fault(delay=0.3)] * 4)
    spec = ModelSpec(
        provider="openai", name="text-embedding-3-small", native_dimensions=1536, matryoshka=True, max_inputs=1
    )
    provider = OpenAI(spec, api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    with Embedder(provider, deadline=1.0, max_concurrency=1) as embedder:
        embed(embedder, face, [f"text {i}" for i in range(4)])
    assert len(emulator.requests) == 4


@pytest.mark.parametrize("wrong", [0, -1, math.nan, "60"])
def test_what_is_no_deadline(wrong, emulator):
    with pytest.raises(ConfigurationError, match="deadline"):
        Embedder(provider_at(emulator, "openai"), deadline=wrong)
