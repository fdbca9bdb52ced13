"""What goes wrong on the wire: no wrong vector without an error, and no foreign error, on either transport."""

from __future__ import annotations

import asyncio
import dataclasses
import warnings

import numpy as np
import openai
import pytest
import voyageai

from mrlclient import (
    Embedder,
    ModelMismatchError,
    MRLError,
    OpenAI,
    ProviderError,
    ResponseContractError,
    ServerBehaviorWarning,
    Voyage,
    catalogue,
)
from mrlclient.testing.emulator import FAULTS, emulator_vector
from mrlclient.vectors import truncate_dimensions
from tests.faults.matrix import waits_skipped

TEXTS = ["a first text", "a second, longer text", "and a third"]
MODELS = {"openai": "openai:text-embedding-3-small", "voyage": "voyage:voyage-4"}
CASES = [
    pytest.param(name, provider, id=f"{provider}-{name}")
    for name, fault in FAULTS.items()
    for provider in fault.providers
]
#: Refusals that smaller requests may not meet: these are tried at once.
DIVIDED = {"openai_413", "html_413", "openai_request_too_large", "voyage_400_without_detail"}


def timeout_for(fault):
    """Short only where it has to pass: a busy machine takes its time too."""
    return 0.3 if fault.delay or fault.stall or fault.dribble else 10.0


def make_provider(name, emulator, sdk=False, timeout=10.0):
    model = MODELS[name].partition(":")[2]
    if name == "openai":
        key, url = emulator.openai_key, emulator.openai_base_url
        if sdk:
            return OpenAI(model, client=openai.OpenAI(api_key=key, base_url=url), timeout=timeout)
        return OpenAI(model, api_key=key, base_url=url, timeout=timeout)
    key, url = emulator.voyage_key, emulator.voyage_base_url
    if sdk:
        return Voyage(model, client=voyageai.Client(key, base_url=url), timeout=timeout)
    return Voyage(model, api_key=key, base_url=url, timeout=timeout)


def embed(embedder, face, **options):
    if face == "sync":
        return embedder.embed(TEXTS, **options)
    return asyncio.run(embedder.aembed(TEXTS, **options))


def expected(provider, width):
    return truncate_dimensions(np.array([emulator_vector(MODELS[provider], text) for text in TEXTS]), width)


@pytest.mark.parametrize("face", ["sync", "asyncio"])
@pytest.mark.parametrize(("name", "provider"), CASES)
def test_one_attempt(name, provider, face, emulator):
    """The right vectors, or an error of ours that says whether to try again."""
    fault = dataclasses.replace(FAULTS[name], times=99 if name in DIVIDED else 1)
    emulator.faults.append(fault)
    with (
        Embedder(make_provider(provider, emulator, timeout=timeout_for(fault)), max_attempts=1) as embedder,
        warnings.catch_warnings(record=True),
    ):
        warnings.simplefilter("always")
        if fault.expects == "ok":
            result = embed(embedder, face, dimensions=512)
            np.testing.assert_allclose(result.embeddings, expected(provider, 512), atol=2e-4)
            assert bool(result.notes) == (name in ("ignores_dimensions", "ignores_base64"))
        else:
            with pytest.raises(ProviderError) as caught:
                embed(embedder, face, dimensions=512)
            error = caught.value
            # Another model would be there the next time, too.
            assert error.retryable == (fault.expects != "permanent" and name != "renamed_model")
            assert isinstance(error, ModelMismatchError) == (name == "renamed_model")
            assert isinstance(error, ResponseContractError) == (fault.expects in ("contract_error", "bad_row"))
            assert error.__cause__ is None
            assert error.__context__ is None
            assert not any(text in str(error) for text in [*TEXTS, emulator.openai_key, emulator.voyage_key])
    assert len(emulator.requests) == 1 or name in DIVIDED


# An official client reads an answer first: some faults it puts right, others become an error of its own.
@pytest.mark.parametrize(("name", "provider"), CASES)
def test_one_attempt_through_the_official_client(name, provider, emulator):
    """No wrong vector and no foreign error, whatever the client makes of it; it sends one request only."""
    if (name, provider) == ("slow_body", "voyage"):
        pytest.skip("voyageai has no deadline for a whole body")
    emulator.faults.append(dataclasses.replace(FAULTS[name], times=1))
    with (
        Embedder(
            make_provider(provider, emulator, sdk=True, timeout=timeout_for(FAULTS[name])), max_attempts=1
        ) as embedder,
        warnings.catch_warnings(record=True),
    ):
        warnings.simplefilter("always")
        try:
            result = embedder.embed(TEXTS, dimensions=512)
        except MRLError:
            assert FAULTS[name].expects != "ok"
        else:
            np.testing.assert_allclose(result.embeddings, expected(provider, 512), atol=2e-4)
    assert len(emulator.requests) == 1 or name in DIVIDED


RECOVERS = [
    "openai_rate_limited",
    "openai_slow_down",
    "bad_gateway_502",
    "closed_before_answer",
    "reset_in_body",
    "nan",
]


@pytest.mark.parametrize("face", ["sync", "asyncio"])
@pytest.mark.parametrize("sdk", [False, True])
@pytest.mark.parametrize("name", RECOVERS)
def test_a_passing_fault_costs_one_more_request(name, sdk, face, emulator):
    emulator.faults.append(FAULTS[name])
    with Embedder(make_provider("openai", emulator, sdk=sdk)) as embedder, waits_skipped() as waits:
        result = embed(embedder, face)
    assert len(waits) == 1
    np.testing.assert_allclose(result.embeddings, expected("openai", 1536), atol=2e-4)
    assert len(emulator.requests) == 2


@pytest.mark.parametrize(
    ("name", "requests"), [("bad_gateway_502", 4), ("count_zero", 3), ("openai_insufficient_quota", 1)]
)
def test_a_lasting_fault_ends(name, requests, emulator):
    emulator.faults.append(dataclasses.replace(FAULTS[name], times=99))
    with Embedder(make_provider("openai", emulator), max_attempts=4) as embedder, waits_skipped() as waits:  # noqa: SIM117
        with pytest.raises(ProviderError):
            embedder.embed(TEXTS)
    assert len(emulator.requests) == len(waits) + 1 == requests


def test_one_bad_batch_of_many_is_repeated_alone(emulator):
    texts = [f"text {i}" for i in range(50)]
    emulator.faults.append(
        dataclasses.replace(FAULTS["bad_gateway_502"], when=lambda request: request.body["input"][0] == "text 20")
    )
    spec = dataclasses.replace(catalogue().models[MODELS["openai"]], max_inputs=20)
    provider = OpenAI(spec, api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    with Embedder(provider, dimensions=1536) as embedder:
        result = embedder.embed(texts)
    assert sorted(len(request.body["input"]) for request in emulator.requests) == [10, 20, 20, 20]
    for i in (0, 19, 20, 49):
        np.testing.assert_allclose(result[i], emulator_vector(MODELS["openai"], texts[i]), atol=2e-4)


def test_a_server_that_ignores_a_parameter_is_told_of_at_the_callers_line(emulator):
    emulator.faults.append(FAULTS["ignores_dimensions"])
    with Embedder(make_provider("openai", emulator)) as embedder:
        with pytest.warns(ServerBehaviorWarning, match="ignored dimensions=512") as caught:
            result = embedder.embed(TEXTS, dimensions=512)
        assert caught[0].filename == __file__
    assert result.reduction == "client"
