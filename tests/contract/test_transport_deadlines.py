"""No exchange outlives its seconds: a provider's own, or the fewer that a flow gives it."""

from __future__ import annotations

import time

import anyio
import openai
import pytest
import voyageai

from mrlclient import OpenAI, ProviderTimeoutError, Voyage
from mrlclient.dimensions import resolve
from mrlclient.drivers import AsyncDriver, SyncDriver
from mrlclient.operations import Send
from mrlclient.plan import make_plan
from mrlclient.testing.emulator import Fault


def own(emulator):
    return OpenAI(
        "text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=30.0
    )


def over_openai(emulator):
    client = openai.OpenAI(api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    return OpenAI("text-embedding-3-small", client=client, timeout=30.0)


def over_async_openai(emulator):
    client = openai.AsyncOpenAI(api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    return OpenAI("text-embedding-3-small", client=client, timeout=30.0)


def over_voyage(emulator):
    client = voyageai.Client(emulator.voyage_key, base_url=emulator.voyage_base_url)
    return Voyage("voyage-4", client=client, timeout=30.0)


def over_async_voyage(emulator):
    client = voyageai.AsyncClient(emulator.voyage_key, base_url=emulator.voyage_base_url)
    return Voyage("voyage-4", client=client, timeout=30.0)


def exchange(provider, timeout):
    (batch,) = make_plan(provider.spec, provider.packing, ["a"], resolve(provider.spec, None)).batches()
    try:
        reply = yield Send(provider, provider.encode(batch), timeout)
        return provider.decode(reply, batch)
    except Exception as error:
        return provider.translate(error) if not isinstance(error, ProviderTimeoutError) else error


def outcome(provider, face, timeout):
    """What comes of one sending, and how long it took."""
    started = time.monotonic()
    if face == "sync":
        answer = SyncDriver().run(exchange(provider, timeout))
        provider.close()
        return answer, time.monotonic() - started

    async def main():
        answer = await AsyncDriver().run(exchange(provider, timeout))
        await provider.aclose()
        client = getattr(provider._transport, "_client", None)
        if isinstance(client, openai.AsyncOpenAI):
            await client.close()
        return answer

    return anyio.run(main, backend=face), time.monotonic() - started


@pytest.mark.parametrize(
    ("make", "face"),
    [
        (own, "sync"),
        (own, "asyncio"),
        (own, "trio"),
        (over_openai, "sync"),
        (over_openai, "asyncio"),
        (over_async_openai, "asyncio"),
        (over_async_openai, "trio"),
        (over_voyage, "sync"),
        (over_async_voyage, "asyncio"),
    ],
)
def test_fewer_seconds_than_the_providers_own(make, face, emulator):
    emulator.faults.append(Fault(delay=3.0))
    error, seconds = outcome(make(emulator), face, 0.3)
    assert type(error) is ProviderTimeoutError
    assert error.retryable
    assert seconds < 0.8


@pytest.mark.parametrize("face", ["sync", "asyncio", "trio"])
def test_more_seconds_than_the_providers_own(face, emulator):
    emulator.faults.append(Fault(delay=3.0))
    provider = OpenAI(
        "text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=0.3
    )
    error, seconds = outcome(provider, face, 30.0)
    assert type(error) is ProviderTimeoutError
    assert seconds < 0.8
