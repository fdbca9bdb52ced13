"""Every way to call, every way to fail: neither a key nor a text is anywhere in what comes out of it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle
import socket
import threading

import anyio
import openai
import pytest
import voyageai

from mrlclient import (
    ConfigurationError,
    Embedder,
    MRLError,
    Nomic,
    OpenAI,
    OpenAICompatible,
    ProviderError,
    Voyage,
    WordLlama,
    catalogue,
)
from mrlclient.cache import MemoryCache, RedisCache, SQLiteCache
from mrlclient.dimensions import resolve
from mrlclient.operations import CountTokens, Send
from mrlclient.plan import make_plan
from mrlclient.testing.emulator import FAULTS, Fault
from tests.conftest import TINY_NOMIC
from tests.faults.matrix import waits_skipped
from tests.secrets.scanning import CANARIES, KEY, PASSWORD, PLAIN_KEY, TEXT, check, forms, frames, heard

MODELS = {
    "openai": "text-embedding-3-small",
    "openai-compatible": dataclasses.replace(
        catalogue().models["openai:text-embedding-3-small"], provider="openai-compatible"
    ),
    "voyage": "voyage-4",
}
KINDS = {"openai": OpenAI, "openai-compatible": OpenAICompatible, "voyage": Voyage}
BODIES = {
    "openai": lambda words, said: {"error": {"message": words, "type": said, "code": said}},
    "openai-compatible": lambda words, said: {
        "error": words,
        "error_type": said,
        "detail": [{"loc": ["body", said], "msg": words, "input": said}],
    },
    "voyage": lambda words, said: {"detail": words, "error_code": said},
}
TEXTS = [TEXT, "a second text", "a third"]
SYNC_CLIENTS = {"openai": openai.OpenAI, "openai-compatible": openai.OpenAI, "voyage": voyageai.Client}
ASYNC_CLIENTS = {"openai": openai.AsyncOpenAI, "openai-compatible": openai.AsyncOpenAI, "voyage": voyageai.AsyncClient}

WAYS = [
    (name, face, client)
    for name in MODELS
    for face, client in [
        *[(face, None) for face in ("sync", "asyncio", "trio")],
        ("sync", SYNC_CLIENTS[name]),
        ("asyncio", ASYNC_CLIENTS[name]),
    ]
]
IDS = [f"{name}-{face}{'-client' if client else ''}" for name, face, client in WAYS]


def make(name, emulator, client=None, key=KEY, timeout=10.0):
    url = emulator.voyage_base_url if name == "voyage" else emulator.openai_base_url
    if client is not None:
        return KINDS[name](MODELS[name], client=client(api_key=key, base_url=url), timeout=timeout)
    return KINDS[name](MODELS[name], api_key=key, base_url=url, timeout=timeout)


def call(embedder, face, texts=TEXTS, **options):
    """Embeds, and returns what came of it: a result or an error."""

    async def acall():
        try:
            return await embedder.aembed(texts, **options)
        finally:
            # An official client is bound to its loop.
            inner = getattr(embedder._engine.documents.main.provider._transport, "_client", None)
            if isinstance(inner, openai.AsyncOpenAI):
                await inner.close()

    try:
        return embedder.embed(texts, **options) if face == "sync" else anyio.run(acall, backend=face)
    except MRLError as error:
        return error


@pytest.mark.parametrize(("name", "face", "client"), WAYS, ids=IDS)
def test_success(name, face, client, emulator, listening):
    listening.vendors = client is not None
    with Embedder(make(name, emulator, client, timeout=30), dimensions=[1024, 512]) as embedder:
        result = call(embedder, face)
        assert len(result) == 3
        check(embedder, embedder._engine.documents.main.provider, embedder.spec, result, result.usage)
        assert not heard(repr(embedder._engine.documents.main.provider._transport))


def echoes(name):
    """Answers that say what was sent."""
    for number, status in enumerate((400, 401, 403, 404, 413, 422, 429, 500, 503, 529)):
        for secret in (TEXT, KEY):
            for form, said in forms(secret).items():
                # Every status and every form, though not every pair of them.
                if form != "whole" and (number + len(form)) % 5:
                    continue
                words = f"You sent {said} and that is wrong."
                body = BODIES[name](words, said)
                headers = {"x-request-id": "r-1"}
                yield pytest.param(Fault(status=status, body=body, headers=headers), id=f"{status}-{form}-{secret[:2]}")
    for body in (f"<html><p>{TEXT} {KEY}</p></html>".encode(), json.dumps([TEXT, KEY]).encode(), TEXT.encode()):
        for status in (200, 400, 500):
            yield pytest.param(Fault(status=status, body=body), id=f"{status}-{body[:2].decode()}")
    yield pytest.param(Fault(body={"error": {"message": TEXT, "code": KEY}}), id="200-error")
    yield pytest.param(Fault(status=307, headers={"location": "https://127.0.0.1/" + KEY}), id="307")


@pytest.mark.parametrize("fault", list(echoes("openai")))
def test_openai_echoes(fault, emulator, listening):
    fails(fault, "openai", emulator, listening)


@pytest.mark.parametrize("fault", list(echoes("openai-compatible")))
def test_compatible_echoes(fault, emulator, listening):
    fails(fault, "openai-compatible", emulator, listening)


@pytest.mark.parametrize("fault", list(echoes("voyage")))
def test_voyage_echoes(fault, emulator, listening):
    fails(fault, "voyage", emulator, listening)


def fails(fault, name, emulator, listening, ways=("sync", "asyncio", "client"), must=True):
    for way in ways:
        emulator.clear()
        # However often it is asked: a refused request is tried again in smaller ones.
        emulator.faults.append(dataclasses.replace(fault, times=99 if must else 1))
        client = SYNC_CLIENTS[name] if way == "client" else None
        listening.vendors = listening.vendors or client is not None
        # Short only where it has to pass: a busy machine takes its time too.
        timeout = 0.3 if fault.delay or fault.stall or fault.dribble else 10.0
        with waits_skipped(), Embedder(make(name, emulator, client, timeout=timeout), max_attempts=1) as embedder:
            error = call(embedder, "asyncio" if way == "asyncio" else "sync", dimensions=512)
            assert isinstance(error, MRLError) == must
            check(error, embedder, embedder._engine.documents.main.provider)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param(provider, dataclasses.replace(fault, times=1), id=f"{provider}-{name}")
        for name, fault in FAULTS.items()
        if name != "renamed_model"  # not looked at
        for provider in fault.providers
    ],
)
def test_named_faults(name, fault, emulator, listening):
    # An official client has no deadline for a slow body.
    slow = fault.dribble or fault.stall or fault.delay
    ways = ("sync", "asyncio") if slow else ("sync", "asyncio", "client")
    fails(fault, name, emulator, listening, ways, must=fault.expects != "ok")


@pytest.mark.parametrize("secret", [PLAIN_KEY, TEXT])
@pytest.mark.parametrize("form", ["whole", "upper", "json", "html"])
def test_a_key_that_looks_like_nothing_is_known_all_the_same(form, secret, emulator, listening):
    emulator.faults.append(Fault(status=401, body={"error": {"message": f"No such key: {forms(secret)[form]}"}}))
    with Embedder(make("openai", emulator, key=PLAIN_KEY), max_attempts=1) as embedder:
        check(call(embedder, "sync"))


def test_a_code_that_a_text_resembles_is_still_read(emulator):
    fault = Fault(status=429, body={"error": {"message": "No.", "code": "insufficient_quota"}}, times=9)
    emulator.faults.append(fault)
    with Embedder(make("openai", emulator), max_attempts=3) as embedder:
        error = call(embedder, "sync", ["quota"])
    assert (type(error).__name__, error.code) == ("QuotaError", "insufficient_quota")
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("face", ["sync", "asyncio", "trio"])
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/v1", "https://127.0.0.1:1/v1", "https://no-such-host.invalid/v1", "tls"]
)
def test_connections_that_fail(url, face, emulator, listening):
    if url == "tls":
        url = emulator.openai_base_url.replace("http:", "https:")
    cannot_connect(url, face)


@pytest.mark.parametrize("face", ["sync", "asyncio", "trio"])
def test_a_server_that_repeats_what_it_hears(face):
    """The HTTP library's own log at DEBUG holds what a server says in its head, so only the error is listened to."""
    with Parrot() as parrot:
        cannot_connect(parrot.url, face)


def cannot_connect(url, face):
    with Embedder(OpenAI(MODELS["openai"], api_key=KEY, base_url=url, timeout=3), max_attempts=1) as embedder:
        error = call(embedder, face)
        assert isinstance(error, ProviderError)
        check(error)


class Parrot:
    """A server that answers with a broken head, in which it says all that it heard."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def serve(self):
        try:
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    said = connection.recv(65536).replace(b"\r\n", b" ")
                    connection.sendall(b"HTTP/1.1 200 OK\r\n" + said.replace(b":", b" ") + b"\r\n\r\n")
        except OSError:
            pass


@pytest.mark.parametrize("face", ["sync", "asyncio"])
@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ([TEXT, ""], {}),
        ([TEXT, TEXT + "\ud800"], {}),
        ([TEXT, 7], {}),
        (TEXT, {}),
        ({TEXT: 1}, {}),
        ([TEXT], {"input_type": "nobody"}),
        ([TEXT], {"task": "nothing"}),
        ([TEXT], {"dimensions": 0}),
        ([TEXT], {"dimensions": 1537}),
    ],
)
def test_refusals_before_anything_is_sent(texts, options, face, emulator, listening):
    with Embedder(make("openai", emulator)) as embedder:
        error = call(embedder, face, texts, **options)
        assert isinstance(error, MRLError)
        check(error)
    assert emulator.requests == []


class Fails(WordLlama):
    """Says the texts in its own errors."""

    def compute(self, model, batch):
        raise ValueError(*batch.texts)


@pytest.mark.parametrize("face", ["sync", "asyncio"])
@pytest.mark.parametrize(
    ("make", "texts"),
    [(Fails, TEXTS), (WordLlama, [TEXT, ""]), (lambda: Nomic(model_path=TINY_NOMIC), [TEXT, TEXT * 500])],
    ids=["a foreign error", "blank", "too long"],
)
def test_local_models(make, texts, face, listening):
    with Embedder(make()) as embedder:
        try:
            error = embedder.embed(texts) if face == "sync" else asyncio.run(embedder.aembed(texts))
        except MRLError as failure:
            error = failure
        assert isinstance(error, MRLError)
        check(error, embedder)


@pytest.mark.parametrize(
    "options",
    [{"timeout": -1}, {"base_url": "ftp://x"}, {"client": object()}, {"model": "nope"}, {"api_key": KEY + " \n"}],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("name", MODELS)
def test_constructors_that_fail(name, options, listening):
    with pytest.raises(ConfigurationError) as caught:
        KINDS[name](**{"model": MODELS[name], "api_key": KEY} | options)
    check(caught.value, *frames(caught.value))


def test_requests_and_plans_say_nothing(emulator):
    provider = make("openai", emulator)
    plan = make_plan(provider.spec, provider.packing, TEXTS, resolve(provider.spec, 512))
    batch = next(plan.batches())
    request = provider.encode(batch)
    for thing in (plan, batch, request, Send(provider, request), CountTokens(provider, TEXTS), provider.send(request)):
        assert not heard(repr(thing) + str(thing))


# Caches.


@pytest.fixture(params=["memory", "file", "server"])
def cache(request, tmp_path):
    if request.param == "memory":
        return MemoryCache()
    if request.param == "file":
        return SQLiteCache(tmp_path / "vectors.db")
    name = request.getfixturevalue("prefix")
    return RedisCache(request.getfixturevalue("url"), prefix=name, secret=PASSWORD.encode())


@pytest.mark.parametrize("face", ["sync", "asyncio"])
def test_what_a_cache_holds(cache, face, emulator, tmp_path, request, listening):
    with Embedder(make("openai", emulator, timeout=30), cache=cache) as embedder:
        for _ in range(2):
            assert len(call(embedder, face)) == 3
        check(embedder, cache, cache.stats(), *cache.items())
        assert not heard(repr(embedder._engine.cache))
        cache.close()
    for path in tmp_path.iterdir():
        assert not heard(path.read_bytes())
    if isinstance(cache, RedisCache):
        import valkey

        with valkey.Valkey.from_url(request.getfixturevalue("url")) as client:
            names = list(client.scan_iter())
            assert len(names) >= 3
            for name in names:
                held = client.get(name) if client.type(name) == b"string" else repr(client.hgetall(name)).encode()
                assert not heard(name + held)


class Breaks(MemoryCache):
    def get_many(self, keys, width, out):
        raise OSError("the disk is gone")


@pytest.mark.parametrize(
    "broken",
    [Breaks, lambda: RedisCache(f"redis://me:{PASSWORD}@127.0.0.1:1/0", timeout=0.2)],
    ids=["a cache of one's own", "a server that is gone"],
)
def test_a_cache_that_fails(broken, emulator, listening):
    cache = broken()
    with Embedder(make("openai", emulator, timeout=30), cache=cache) as embedder:
        assert len(call(embedder, "sync")) == 3
        check(cache, embedder)


@pytest.mark.parametrize("address", [f"redis://me:{PASSWORD}@[nowhere", f"valkey://me:{PASSWORD}@host:port/0"])
def test_an_address_of_a_cache_that_is_wrong(address, listening):
    with pytest.raises(ConfigurationError) as caught:
        Embedder(WordLlama(), cache=address)
    assert not heard(str(caught.value) + repr(caught.value))
    assert caught.value.__context__ is None
    assert not heard(pickle.dumps(caught.value))


def test_the_helper_hears_every_canary_in_every_form():
    for canary in CANARIES:
        for form in forms(canary).values():
            assert heard(f"so it says: {form}")
    with pytest.raises(AssertionError):
        check(ValueError(TEXT))
