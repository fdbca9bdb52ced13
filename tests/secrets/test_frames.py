"""A traceback that is printed with its local variables, as error trackers do: no text in the frames of ours."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading

import numpy as np
import pytest

from mrlclient import ConfigurationError, Embedder, MRLError, OpenAI, WordLlama
from mrlclient._frames import discreet
from mrlclient.canary import CANARY_TEXTS
from mrlclient.contract import contract_of
from mrlclient.integrations._index_vectors import IndexVectors
from mrlclient.testing.emulator import Fault
from tests.secrets.scanning import KEY, PASSWORD, TEXT, frames, heard


def hosted(emulator, **options):
    provider = OpenAI("text-embedding-3-small", api_key=KEY, base_url=emulator.openai_base_url, timeout=10)
    return Embedder(provider, max_attempts=1, **options)


def silent(error):
    return not any(map(heard, frames(error)))


def indexed(embedder, width=1536):
    rows = np.eye(len(CANARY_TEXTS), width, dtype=np.float32)
    return IndexVectors(embedder, contract_of(embedder._engine.documents.main.provider, width, rows))


CALLS = {
    "embed": lambda e: e.embed([TEXT, "b"]),
    "embed_documents": lambda e: e.embed_documents([TEXT]),
    "embed_query": lambda e: e.embed_query(TEXT),
    "aembed": lambda e: asyncio.run(e.aembed([TEXT, "b"])),
    "aembed_documents": lambda e: asyncio.run(e.aembed_documents([TEXT])),
    "aembed_query": lambda e: asyncio.run(e.aembed_query(TEXT)),
    "blank": lambda e: e.embed([TEXT, ""]),
    "surrogate": lambda e: e.embed([TEXT, "\ud800" + TEXT]),
    "role": lambda e: e.embed([TEXT], input_type="nobody"),
    "width": lambda e: asyncio.run(e.aembed([TEXT], dimensions=0)),
    "one text": lambda e: e.embed(TEXT),
    "contract": lambda e: e.contract(),
    "acontract": lambda e: asyncio.run(e.acontract()),
    "check": lambda e: indexed(e).contract.check(e),
    "acheck": lambda e: asyncio.run(indexed(e).contract.acheck(e)),
    "index query": lambda e: indexed(e).query(TEXT),
    "narrow index query": lambda e: indexed(e, 512).query(TEXT),
    "async index query": lambda e: asyncio.run(indexed(e, 512).aquery(TEXT)),
    "index batches": lambda e: next(indexed(e).batches([TEXT])),
    "index batch size": lambda e: indexed(e).batches([TEXT], batch_size=0),
}


@pytest.mark.parametrize("cache", [None, "memory:"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_errors(call, cache, emulator):
    emulator.faults.append(Fault(status=400, body={"error": {"message": TEXT}}, times=9))
    with hosted(emulator, cache=cache) as embedder, pytest.raises(MRLError) as caught:
        call(embedder)
    assert silent(caught.value)


def test_an_interrupt(emulator):
    """Below ours lie an HTTP client's frames, which hold the request with its key: nothing is left in those either."""
    emulator.faults.append(Fault(delay=3))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with hosted(emulator) as embedder, pytest.raises(KeyboardInterrupt) as caught:
            embedder.embed([TEXT])
    finally:
        signal.signal(signal.SIGINT, before)
    trace = caught.value.__traceback__.tb_next
    while trace is not None:
        assert not heard(repr(trace.tb_frame.f_locals))
        trace = trace.tb_next


def test_the_callers_own_error_keeps_its_variables():
    def texts():
        mine = "to be looked at"
        yield TEXT
        raise LookupError(mine)

    with Embedder(WordLlama()) as embedder, pytest.raises(LookupError) as caught:
        embedder.embed(texts())
    assert silent(caught.value)
    trace = caught.value.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    assert trace.tb_frame.f_locals["mine"] == "to be looked at"


@pytest.mark.parametrize("options", [{"cache": f"redis://me:{PASSWORD}@[nowhere"}, {"max_attempts": 0}])
def test_a_cache_address_with_a_password(options):
    with pytest.raises(ConfigurationError) as caught:
        Embedder("wordllama:l2-supercat-256", **{"cache": f"redis://me:{PASSWORD}@host"} | options)
    assert silent(caught.value)


def test_the_decorator_changes_nothing_else():
    @discreet
    def add(a: int, *, b: int = 1) -> int:
        """Adds."""
        return a + b

    @discreet
    async def aadd(a: int) -> int:
        return a + 1

    assert (add(1, b=2), asyncio.run(aadd(1)), add.__doc__) == (3, 2, "Adds.")
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    assert inspect.iscoroutinefunction(aadd)
    assert not inspect.iscoroutinefunction(add)
