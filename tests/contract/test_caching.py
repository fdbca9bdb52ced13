"""An embedder with a cache: pay once, serve every narrower width; share nothing that differs; survive its failures."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import threading
import warnings

import anyio
import anyio.from_thread
import numpy as np
import pytest

from mrlclient import (
    BadRequestError,
    CacheWarning,
    ConfigurationError,
    Embedder,
    InputError,
    ModelSpec,
    Nomic,
    OpenAI,
    ResponseContractError,
    ServerError,
    Voyage,
    WordLlama,
)
from mrlclient.cache import Cache, MemoryCache, open_cache
from mrlclient.cache.base import CacheStats, Found
from mrlclient.testing.emulator import FAULTS, Fault, emulator_vector
from mrlclient.vectors import truncate_dimensions
from tests.conftest import TINY_NOMIC

SMALL = "text-embedding-3-small"


@pytest.fixture
def cache():
    return MemoryCache()


@pytest.fixture
def make(emulator, cache):
    """Makes embedders on the emulator that share a cache."""
    made = []

    def make(model=SMALL, *, cache=cache, **options):
        kind, key, url = (
            (Voyage, emulator.voyage_key, emulator.voyage_base_url)
            if str(model).startswith("voyage")
            else (OpenAI, emulator.openai_key, emulator.openai_base_url)
        )
        provider = kind(model, api_key=key, base_url=url)
        made.append(Embedder(provider, cache=cache, on_narrow="allow", **options))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


def sent(emulator):
    return [text for request in emulator.requests for text in request.body["input"]]


TEXTS = [f"text number {i}" for i in range(5)]


def full(model, texts):
    return np.array([emulator_vector(model, text) for text in texts])


@pytest.mark.parametrize("model", [SMALL, "voyage-4"])
@pytest.mark.parametrize("fetch", ["requested", "native"])
def test_narrower_is_free_and_wider_is_paid_once(make, emulator, model, fetch):
    embedder = make(model, fetch=fetch)
    native = embedder.spec.native_dimensions
    for width, requests in (
        (512, 1),
        (512, 1),
        (511, 1),
        (300, 1),
        (256, 1),
        (7, 1),
        (1024, 2),
        (600, 2),
        (native, 3),
        (1, 3),
    ):
        result = embedder.embed(TEXTS, dimensions=width)
        wanted = truncate_dimensions(full(embedder.model, TEXTS), width)
        np.testing.assert_allclose(result.embeddings, wanted, atol=2e-3)
        assert len(emulator.requests) == (1 if fetch == "native" else requests), width
        assert result.usage.cached_texts == (0 if result.usage.tokens else len(TEXTS))
    assert fetch == "requested" or emulator.requests[0].body.get("dimensions", native) == native


def test_only_what_is_missing_is_sent_and_the_order_is_kept(make, emulator):
    embedder = make()
    embedder.embed(TEXTS[1:3])
    emulator.clear()
    result = embedder.embed([TEXTS[4], TEXTS[2], TEXTS[0], TEXTS[4], TEXTS[1], TEXTS[3]])
    assert sent(emulator) == [TEXTS[4], TEXTS[0], TEXTS[3]]
    np.testing.assert_allclose(
        result.embeddings, full(embedder.model, [TEXTS[i] for i in (4, 2, 0, 4, 1, 3)]), atol=1e-6
    )
    assert (result.usage.tokens, result.usage.cached_texts) == (12, 2)
    assert result.usage.cached_tokens == pytest.approx(8)
    assert result.usage.saved_usd == pytest.approx(8 * 0.02e-6)


def test_what_never_shares(make, emulator, cache):
    """Query and document, two models, two addresses, two deployments, a cut input: each is its own."""
    text = ["the same text"]
    spec = ModelSpec(provider="openai", name=SMALL, native_dimensions=1536, matryoshka=True, revision="2")
    calls = [
        lambda: make().embed(text),
        lambda: make("text-embedding-3-large").embed(text),
        lambda: make(spec).embed(text),
        lambda: make(dataclasses.replace(spec, revision="3")).embed(text),
        lambda: make(dataclasses.replace(spec, prompts={"query": "find: "})).embed(text, input_type="query"),
        lambda: make("voyage-4").embed(text),
        lambda: make("voyage-4").embed(text, input_type="query"),
        lambda: make("voyage-4").embed(text, input_type="document"),
        lambda: make("voyage-4-lite").embed(text),
        lambda: make("voyage-4", truncate_input=True).embed(text),
    ]
    for count, call in enumerate(calls, 1):
        call()
        assert len(emulator.requests) == count
    for call in calls:
        call()
    assert len(emulator.requests) == len(calls)
    other_address = OpenAI(SMALL, api_key=emulator.openai_key, base_url=emulator.openai_base_url + "/")
    with Embedder(other_address, cache=cache) as same_address:
        same_address.embed(text)
    assert len(emulator.requests) == len(calls)


def test_a_server_cut_that_is_no_prefix_is_kept_apart(make, emulator):
    spec = ModelSpec(
        provider="openai", name=SMALL, native_dimensions=1536, matryoshka=True, server_dimensions="any"
    )  # the catalogue's row says that the cut is a prefix, this one does not
    embedder = make(spec)
    embedder.embed(TEXTS, dimensions=512)
    embedder.embed(TEXTS, dimensions=256)
    embedder.embed(TEXTS, dimensions=1536)
    assert len(emulator.requests) == 3
    embedder.embed(TEXTS, dimensions=256)
    assert len(emulator.requests) == 3


def test_a_narrower_declared_full_width_is_kept_apart(make, emulator):
    """It is a server's cut in truth, of which nobody says that it is a prefix."""
    whole = ModelSpec(provider="openai", name=SMALL, native_dimensions=1536, matryoshka=True, server_dimensions="any")
    make(whole).embed(TEXTS)
    make(dataclasses.replace(whole, native_dimensions=512)).embed(TEXTS)
    assert len(emulator.requests) == 2


@pytest.mark.parametrize("provider", [lambda: Nomic(model_path=TINY_NOMIC), WordLlama], ids=["nomic", "wordllama"])
def test_local_models_too(provider, cache):
    with Embedder(provider(), cache=cache) as embedder, Embedder(provider()) as plain:
        for width in (embedder.dimensions, 128, 64):
            first, again = embedder.embed(TEXTS, dimensions=width), embedder.embed(TEXTS, dimensions=width)
            np.testing.assert_allclose(again.embeddings, plain.embed(TEXTS, dimensions=width).embeddings, atol=1e-5)
            assert again.usage.tokens == 0
            assert again.usage.cached_texts == 5
        assert first.usage.tokens == 0
    assert cache.stats().entries == 5


def test_a_local_model_whose_file_is_gone(tmp_path, cache):
    shutil.copytree(TINY_NOMIC, tmp_path / "model")
    with Embedder(Nomic(model_path=tmp_path / "model"), cache=cache) as embedder:
        shutil.rmtree(tmp_path / "model")
        with pytest.raises(ConfigurationError, match=r"model\.onnx"):
            embedder.embed_query("a")


def test_nothing_of_a_bad_answer_is_kept(make, emulator, cache):
    embedder = make(max_attempts=1)
    for name in ("count_minus_one", "wrong_width", "big_endian", "bad_gateway_502"):
        emulator.faults.append(FAULTS[name])
        with pytest.raises(Exception, match="openai"):
            embedder.embed(TEXTS)
    assert cache.stats().entries == 0
    assert embedder._engine.cache.flights._under_way == {}


@pytest.mark.parametrize("name", ["nan", "zero_vector", "norm_3"])
def test_of_an_answer_with_a_bad_row_the_good_ones_are_kept(make, emulator, cache, name):
    emulator.faults.append(FAULTS[name])
    with pytest.raises(ResponseContractError, match="Text 1") as caught:
        make(max_attempts=1).embed(TEXTS)
    assert caught.value.index == 1
    assert cache.stats().entries == len(TEXTS) - 1
    emulator.clear()
    embedder = make()
    np.testing.assert_allclose(embedder.embed(TEXTS).embeddings, full(embedder.model, TEXTS), atol=1e-6)
    assert sent(emulator) == [TEXTS[1]]
    assert embedder._engine.cache.flights._under_way == {}


def test_finished_batches_are_kept_when_a_later_one_fails(make, emulator, cache):
    embedder = make(max_attempts=1, max_concurrency=1)
    texts = [f"text {i}" for i in range(5000)]
    emulator.faults.append(
        dataclasses.replace(FAULTS["bad_gateway_502"], when=lambda r: r.body["input"][0] == "text 4096")
    )
    with pytest.raises(ServerError):
        embedder.embed(texts)
    emulator.clear()
    embedder.embed(texts)
    assert len(sent(emulator)) == 904


class BrokenCache(Cache):
    """A cache whose disk is full, whose file is locked, whose server is gone."""

    secret = b"0123456789abcdef"

    def __init__(self, breaks):
        self.breaks = breaks
        self.calls = []

    def _call(self, name):
        self.calls.append(name)
        if name in self.breaks:
            raise OSError(f"{name} failed")

    def get_many(self, keys, width, out):
        self._call("get")
        out[...] = 7
        return Found(np.zeros(len(keys), dtype=bool))

    def set_many(self, entries):
        self._call("set")

    def close(self):
        self._call("close")

    def items(self):
        return iter(())

    def stats(self):
        return CacheStats(0, 0, 0, 0, 0.0, 0.0)

    prune = clear = verify = stats


@pytest.mark.parametrize("breaks", ["get", "set"])
@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_a_cache_that_fails_is_a_miss_and_one_warning(make, emulator, breaks, face):
    broken = BrokenCache({breaks})
    embedder = make(cache=broken)

    def embed():
        return embedder.embed(TEXTS) if face == "sync" else asyncio.run(embedder.aembed(TEXTS))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            np.testing.assert_allclose(embed().embeddings, full(embedder.model, TEXTS), atol=1e-6)
    assert [w.category for w in caught] == [CacheWarning]
    assert breaks in str(caught[0].message)
    assert len(emulator.requests) == 3
    # It rests after a failure: a server that is gone does not slow every call.
    assert broken.calls.count(breaks) == 1


def test_whose_the_cache_is_to_close(make, emulator):
    given = BrokenCache(())
    make(cache=given).close()
    assert "close" not in given.calls


# Single flight


class Crowd:
    """Many calls of one text at once, in threads or in tasks of a loop."""

    def __init__(self, embedder, face, size):
        self.embedder, self.face, self.size = embedder, face, size

    def run(self, text="the same text"):
        outcomes = []
        if self.face == "threads":
            barrier = threading.Barrier(self.size)

            def call():
                barrier.wait()
                try:
                    outcomes.append(self.embedder.embed_query(text))
                except Exception as error:
                    outcomes.append(error)

            threads = [threading.Thread(target=call) for _ in range(self.size)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return outcomes

        async def call_async():
            try:
                outcomes.append(await self.embedder.aembed_query(text))
            except Exception as error:
                outcomes.append(error)

        async def main():
            async with anyio.create_task_group() as tasks:
                for _ in range(self.size):
                    tasks.start_soon(call_async)

        anyio.run(main, backend=self.face)
        return outcomes


@pytest.mark.parametrize("face", ["threads", "asyncio", "trio"])
def test_a_thousand_calls_are_one_request(make, emulator, face):
    outcomes = Crowd(make(), face, 1000).run()
    assert len(emulator.requests) == 1
    assert len(outcomes) == 1000
    for outcome in outcomes:
        np.testing.assert_array_equal(outcome, outcomes[0])


@pytest.mark.parametrize("face", ["threads", "asyncio", "trio"])
def test_a_leaders_failure_reaches_all(make, emulator, face):
    emulator.faults.append(Fault(status=400, delay=0.3, body={"error": {"message": "no", "code": "x"}}, times=1000))
    outcomes = Crowd(make(), face, 20).run()
    assert len(outcomes) == 20
    assert {type(outcome) for outcome in outcomes} == {BadRequestError}
    assert len({id(outcome) for outcome in outcomes}) == 20
    assert len(emulator.requests) == 1


def test_a_refused_text_is_refused_for_all_and_harms_no_other(make, emulator):
    long = "word " * 9000
    embedder = make()
    outcomes = {}

    def call(name, texts):
        try:
            outcomes[name] = embedder.embed(texts)
        except InputError as error:
            outcomes[name] = error

    emulator.faults.append(Fault(delay=0.3))
    threads = [
        threading.Thread(target=call, args=(name, texts))
        for name, texts in {"both": ["fine", long], "fine": ["fine"], "long": [long]}.items()
    ]
    for thread in threads:
        thread.start()
        # The first leads both texts before the others ask.
        while not embedder._engine.cache.flights._under_way and thread is threads[0]:
            pass
    for thread in threads:
        thread.join()
    assert outcomes["both"].index == 1
    assert outcomes["long"].index == 0
    np.testing.assert_allclose(outcomes["fine"][0], emulator_vector(embedder.model, "fine"), atol=1e-6)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_waiter_harms_nobody(make, emulator, backend):
    embedder = make()
    outcomes = []

    async def call():
        outcomes.append(await embedder.aembed_query("a"))

    async def impatient():
        with anyio.move_on_after(0.05):
            await embedder.aembed_query("a")
        outcomes.append("gave up")

    async def main():
        emulator.faults.append(Fault(delay=0.3))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await anyio.sleep(0.02)
            tasks.start_soon(impatient)
            tasks.start_soon(call)

    anyio.run(main, backend=backend)
    assert outcomes[0] == "gave up"
    np.testing.assert_array_equal(outcomes[1], outcomes[2])
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_leader_hands_over(make, emulator, backend):
    embedder = make()
    outcomes = []

    async def leader(scope):
        with scope:
            await embedder.aembed_query("a")

    async def waiter():
        outcomes.append(await embedder.aembed_query("a"))

    async def main():
        emulator.faults.append(Fault(delay=5.0))
        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            tasks.start_soon(leader, scope)
            await anyio.sleep(0.05)
            for _ in range(3):
                tasks.start_soon(waiter)
            await anyio.sleep(0.05)
            scope.cancel()

    anyio.run(main, backend=backend)
    assert len(outcomes) == 3
    assert len(emulator.requests) <= 2
    assert embedder._engine.cache.flights._under_way == {}


def test_threads_and_loops_share_a_flight(make, emulator):
    embedder = make()
    emulator.faults.append(Fault(delay=0.3))
    outcomes = []
    threads = [threading.Thread(target=lambda: outcomes.append(embedder.embed_query("a"))) for _ in range(3)]
    threads += [
        threading.Thread(target=lambda b=backend: outcomes.append(anyio.run(embedder.aembed_query, "a", backend=b)))
        for backend in ("asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 5
    assert len(emulator.requests) == 1


def test_a_wider_request_does_not_join_a_narrower_flight(make, emulator):
    embedder = make()
    emulator.faults.append(Fault(delay=0.3))
    results = {}
    threads = [
        threading.Thread(target=lambda w=width: results.update({w: embedder.embed(["a"], dimensions=w)}))
        for width in (256, 1536)
    ]
    for thread in threads:
        thread.start()
        while not embedder._engine.cache.flights._under_way:
            pass
    for thread in threads:
        thread.join()
    assert [results[w].dimensions for w in (256, 1536)] == [256, 1536]
    assert len(emulator.requests) == 2


# Addresses


@pytest.mark.parametrize("wrong", ["", "  ", 7, b"memory:", "http://example.com/cache", "s3://bucket"])
def test_addresses_refused(wrong):
    with pytest.raises(ConfigurationError):
        open_cache(wrong)


def test_addresses_taken(cache):
    assert open_cache(cache) is cache
    assert isinstance(open_cache("memory:"), MemoryCache)
    with pytest.raises(ConfigurationError, match="fetch"):
        Embedder(fetch="all")
