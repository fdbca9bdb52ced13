"""Other processes: pickles, spawned and forked workers, signals, exits. The emulator runs in this process."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from subprocess import PIPE

import numpy as np
import openai
import pytest
import voyageai

from mrlclient import (
    BadRequestError,
    Canary,
    ConfigurationError,
    Embedder,
    Limits,
    MissingCredentialsError,
    ModelSpec,
    Nomic,
    OpenAI,
    Provider,
    ProviderTimeoutError,
    Voyage,
    WordLlama,
)
from mrlclient.cache import MemoryCache
from mrlclient.testing.emulator import Fault, emulator_vector
from tests.conftest import TINY_NOMIC
from tests.contract.holding import Held

KEY = "sk-canary-key"
MODEL = "openai:text-embedding-3-small"

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.fixture
def keys(monkeypatch, emulator):
    """Keys and addresses in the environment, as other processes find them too."""
    monkeypatch.setenv("OPENAI_API_KEY", emulator.openai_key)
    monkeypatch.setenv("OPENAI_BASE_URL", emulator.openai_base_url)
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-canary-key")


def again(value):
    return pickle.loads(pickle.dumps(value))


def right(rows, texts):
    return np.abs(rows - np.array([emulator_vector(MODEL, text) for text in texts])).max() < 1e-5


# Pickles and copies.


def settings_of(provider):
    """What a provider was made with, by parameter, from what its pickle would rebuild it with."""
    make, arguments = provider.__reduce__()
    return getattr(make, "keywords", {}) | {"model": arguments[0]}


MADE = [
    lambda: OpenAI("text-embedding-3-small", timeout=7, deployment="mine"),
    lambda: Voyage("voyage-4", timeout=7),
    lambda: Nomic(model_path=TINY_NOMIC, onnx_file="onnx/model_quantized.onnx", revision="abc", threads=2),
    lambda: WordLlama(),
]


@pytest.mark.parametrize("make", MADE, ids=["openai", "voyage", "nomic", "wordllama"])
def test_a_provider_travels_with_every_setting(make, keys):
    provider = make()
    other = again(provider)
    assert type(other) is type(provider)
    assert (other.spec, other.identity, other.packing) == (provider.spec, provider.identity, provider.packing)
    assert settings_of(other) == settings_of(provider)
    # Whoever adds a parameter is told here to let it travel too.
    parameters = set(inspect.signature(type(provider)).parameters)
    assert set(settings_of(provider)) == parameters - {"api_key", "client"}
    assert copy.deepcopy(provider).identity == copy.copy(provider).identity == provider.identity


def test_an_embedder_travels_with_every_setting(keys, tmp_path):
    options = {
        "dimensions": [1024, 512],
        "on_narrow": "error",
        "cache": tmp_path / "vectors.db",
        "fetch": "native",
        "max_attempts": 2,
        "max_concurrency": 3,
        "deadline": 77.0,
        "query_model": MODEL,
        "fallback": [MODEL],
        "limits": Limits(requests_per_minute=100),
        "canary": Canary(tmp_path / "canary.json"),
    }
    with Embedder(MODEL, **options) as embedder, again(embedder) as other:
        assert (other.spec, other._engine.widths) == (embedder.spec, [1024, 512])
        assert other._engine.policy == embedder._engine.policy
        assert other._engine.fetch_native
        assert again(Embedder("wordllama:l2-supercat-256", truncate_input=True))._engine.truncate_input
        assert set(other._arguments) == set(inspect.signature(Embedder).parameters)
        canary = other._arguments["canary"]
        assert repr(canary) == repr(embedder._arguments["canary"])
        settings = {"cache": f"sqlite:{tmp_path / 'vectors.db'}", "canary": canary}
        assert other._arguments == embedder._arguments | settings
        other.embed(["a"])
        assert embedder.embed(["a"]).usage.cached_texts == 1


def test_lists_that_change_later_change_no_embedder():
    dimensions, fallback = [128, np.int64(64)], [WordLlama()]
    embedder = Embedder("wordllama:l2-supercat-256", dimensions=dimensions, fallback=fallback)
    profile = embedder.to_dict()
    dimensions.append(999)
    fallback.append("no model")
    assert embedder.to_dict() == profile
    assert profile["dimensions"] == [128, 64]
    assert again(embedder).widths == [128, 64]
    assert Embedder("wordllama:l2-supercat-256", dimensions=np.int64(64)).to_dict()["dimensions"] == 64


def test_a_declared_model_travels(keys):
    spec = ModelSpec(provider="openai", name="mine", native_dimensions=8, matryoshka=True, prompts={"query": "q: "})
    assert again(Embedder(spec, dimensions=4, on_narrow="allow")).spec == spec


def test_the_default_model_is_that_of_the_first_process(monkeypatch):
    monkeypatch.setenv("MRLCLIENT_MODEL", "wordllama:l2-supercat-256")
    packed = pickle.dumps(Embedder())
    monkeypatch.setenv("MRLCLIENT_MODEL", "openai:text-embedding-3-small")
    assert pickle.loads(packed).model == "wordllama:l2-supercat-256"


def test_files_are_found_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "model").symlink_to(TINY_NOMIC)
    monkeypatch.chdir(tmp_path)
    with Embedder(Nomic(model_path="model"), cache="vectors.db") as embedder:
        packed = pickle.dumps(embedder)
        rows = embedder.embed_documents(["a"])
    monkeypatch.chdir("/")
    with pickle.loads(packed) as other:
        result = other.embed(["a"], input_type="document")
    assert result.usage.cached_texts == 1
    np.testing.assert_array_equal(result.embeddings, rows)


def test_the_key_is_looked_for_where_it_was_found(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    packed = pickle.dumps(Embedder(MODEL))
    assert KEY.encode() not in packed
    assert KEY.encode() not in pickle.dumps(OpenAI(MODEL))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingCredentialsError, match="OPENAI_API_KEY"):
        pickle.loads(packed)


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        (lambda: OpenAI(MODEL, api_key=KEY), "OPENAI_API_KEY"),
        (lambda: Voyage("voyage-4", api_key=KEY), "VOYAGE_API_KEY"),
        (lambda: OpenAI(MODEL, client=openai.OpenAI(api_key=KEY)), "client="),
        (lambda: Voyage("voyage-4", client=voyageai.Client(KEY)), "client="),
    ],
    ids=["openai", "voyage", "openai's client", "voyage's client"],
)
@pytest.mark.parametrize("act", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_given_in_code_stays(provider, variable, act):
    provider = provider()
    with pytest.raises(ConfigurationError, match=variable) as caught:
        act(provider)
    assert "api_key_env=" in str(caught.value)
    with pytest.raises(ConfigurationError, match=variable):
        pickle.dumps(Embedder(provider))


@pytest.mark.parametrize(
    "address", ["redis://me:canary@localhost", "valkeys://:canary@localhost/0", "redis://localhost?password=canary"]
)
def test_a_password_of_a_cache_stays(address):
    with pytest.raises(ConfigurationError, match="not pickled") as caught:
        pickle.dumps(Embedder(WordLlama(), cache=address))
    assert "canary" not in str(caught.value)


def test_a_password_of_shared_limits_stays():
    embedder = Embedder("wordllama:l2-supercat-256", limits=Limits(shared="valkey://me:canary@localhost"))
    with pytest.raises(ConfigurationError, match="password") as caught:
        pickle.dumps(embedder)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("address", ["memory:", "redis://localhost:1/0", "unix:///tmp/socket"])
def test_an_address_of_a_cache_travels(address):
    assert again(Embedder(WordLlama(), cache=address))._arguments["cache"] == address


class Letters(WordLlama):
    """A third party's: it inherits a way to travel."""


class Unspoken(Provider):
    """A third party's that says nothing of pickles, and holds what must not travel."""

    name = "wordllama"
    packing = encode = decode = send = asend = close = None

    def __init__(self, model="l2-supercat-256", key=KEY):
        super().__init__(model)
        self.key = key


def test_a_third_partys_provider_travels_only_if_it_says_how():
    assert type(again(Letters())) is Letters
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ConfigurationError, match="define __reduce__ on the class") as caught:
            act(Unspoken())
        assert "canary" not in str(caught.value)


def test_a_copy_is_the_same_embedder():
    """Half a copy would close the connections of the other half."""
    embedder = Embedder(WordLlama())
    assert copy.copy(embedder) is embedder
    assert copy.deepcopy({"embedder": [embedder]})["embedder"][0] is embedder


def test_results_and_errors_travel(emulator):
    with Embedder(OpenAI(MODEL, api_key=emulator.openai_key, base_url=emulator.openai_base_url)) as embedder:
        result = embedder.embed(["canary text", "b"], dimensions=[1024, 512], input_type="query")
        packed = pickle.dumps(result)
        assert b"canary" not in packed
        other = pickle.loads(packed)
        np.testing.assert_array_equal(other.at(512), result.at(512))
        assert (other.usage, other.spec, other.input_type) == (result.usage, result.spec, result.input_type)


# Workers.

WORKERS = """
import multiprocessing, pickle, sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
import numpy as np
from mrlclient import AuthenticationError, Embedder, OpenAI
from mrlclient.testing.emulator import emulator_vector

MODEL = "openai:text-embedding-3-small"

def work(embedder, text):
    return embedder.embed_query(text)

def talk(embedder, texts, queue):
    with embedder:
        queue.put(embedder.embed(texts, input_type="query"))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with Embedder(OpenAI(MODEL, timeout=30), cache=sys.argv[2]) as embedder:
        texts = [f"text {i}" for i in range(6)]
        embedder.embed(texts[:2], input_type="query")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            for text, row in zip(texts, pool.map(partial(work, embedder), texts)):
                assert np.abs(row - emulator_vector(MODEL, text)).max() < 1e-5
            try:
                pool.submit(work, embedder, "refused").result()
            except AuthenticationError as error:
                assert error.status == 401
        queue = context.Queue()
        process = context.Process(target=talk, args=(embedder, texts, queue))
        process.start()
        assert queue.get(timeout=30).usage.cached_texts == 6
        process.join()
        assert process.exitcode == 0
        assert embedder.embed(texts, input_type="query").usage.cached_texts == 6
    print("all right")
"""


def run_file(tmp_path, code, *arguments, **options):
    """Runs code as a file of its own: what is spawned imports it again."""
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(code))
    command = [sys.executable, "-W", "error", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_take_an_embedder(method, tmp_path, keys, emulator):
    emulator.faults.append(Fault(status=401, when=lambda request: request.body["input"] == ["refused"]))
    run = run_file(tmp_path, WORKERS, method, str(tmp_path / "vectors.db"))
    assert run.stdout.strip() == "all right", run.stderr
    assert run.stderr == ""
    sent = [text for request in emulator.requests for text in request.body["input"]]
    assert sorted(sent) == [*["refused"], *[f"text {i}" for i in range(6)]]


# Forks.


def in_child(work, seconds=10.0):
    """Forks and works in the child. Returns how it ended: 0, an exit status, or None where it had to be killed."""
    with warnings.catch_warnings():
        # From Python 3.12 on: a fork while threads run is what is looked at here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


@needs_fork
@pytest.mark.parametrize("cache", ["memory:", "file"])
def test_a_child_waits_for_no_request_of_its_parent(cache, emulator, tmp_path):
    """The thread that would tell it of the answer is not in the child."""
    cache = str(tmp_path / "vectors.db") if cache == "file" else cache
    provider = OpenAI(MODEL, api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    with Embedder(provider, cache=cache) as embedder:
        held = Held()
        emulator.faults.append(held.fault)
        thread = threading.Thread(target=embedder.embed, args=(["a", "b"],))
        thread.start()
        assert held.asked.wait(10)

        def work():
            assert right(embedder.embed(["a", "c"]).embeddings, ["a", "c"])

        assert in_child(work) == 0
        assert thread.is_alive()
        held.go.set()
        thread.join()
        assert embedder.embed(["a", "b"]).usage.cached_texts == 2


@needs_fork
@pytest.mark.parametrize("make", [WordLlama, lambda: Nomic(model_path=TINY_NOMIC)], ids=["wordllama", "nomic"])
def test_a_local_model_is_there_after_a_fork(make):
    texts = [f"text {i}" for i in range(5)]
    with Embedder(make()) as embedder:
        rows = embedder.embed(texts).embeddings

        def work():
            np.testing.assert_allclose(embedder.embed(texts).embeddings, rows, atol=1e-6)

        assert in_child(work) == 0


@needs_fork
def test_a_fork_while_a_model_is_loaded():
    loading, go, parent = threading.Event(), threading.Event(), os.getpid()

    class SlowToLoad(WordLlama):
        def load(self):
            loading.set()
            assert os.getpid() != parent or go.wait(30)
            return super().load()

    embedder = Embedder(SlowToLoad())
    thread = threading.Thread(target=embedder.embed, args=(["a"],))
    thread.start()
    assert loading.wait(10)
    assert in_child(lambda: embedder.embed(["a"])) == 0
    assert in_child(embedder.close) == 0
    go.set()
    thread.join()
    embedder.close()


def test_a_signal_may_close_what_is_being_loaded():
    """A handler runs in the middle of whatever its thread does, with the lock that this holds."""
    embedder = None

    class Interrupted(WordLlama):
        def load(self):
            embedder.close()
            return super().load()

    embedder = Embedder(Interrupted())
    thread = threading.Thread(target=embedder.embed, args=(["a"],), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


# Signals and exits.

START = """
import asyncio, signal, sys, threading
from dataclasses import replace
from mrlclient import Embedder, OpenAI, catalogue
spec = replace(catalogue().models["openai:text-embedding-3-small"], max_inputs=20)
embedder = Embedder(OpenAI(spec), cache=sys.argv[1], max_concurrency=2)
texts = [f"text {i}" for i in range(60)]
signal.signal(signal.SIGINT, signal.default_int_handler)
def leave(number, frame):
    sys.exit(9)
"""
SYNC = "embedder.embed(texts)\n"
ASYNCIO = "asyncio.run(embedder.aembed(texts))\n"
TRIO = "import trio\ntrio.run(embedder.aembed, texts)\n"
HANDLER = "signal.signal(signal.SIGTERM, leave)\n"
#: An exit with a call under way in another thread, which nobody waits for.
EXITS = """
threading.Thread(target=embedder.embed, args=(texts,), daemon=True).start()
sys.stdin.readline()
"""
ASYNC_EXITS = """
async def main():
    task = asyncio.create_task(embedder.aembed(texts))
    await asyncio.to_thread(sys.stdin.readline)
asyncio.run(main())
"""


class SoftTimeLimit(Exception):
    """What a job queue raises."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms on this system")
@pytest.mark.parametrize("kind", [SoftTimeLimit, TimeoutError, ConnectionError])
@pytest.mark.parametrize("through", ["http", "openai", "voyageai"])
def test_what_a_signal_handler_raises_is_the_callers(kind, through, keys, emulator):
    """The limit of a job is no failure of the provider, after which the next one is asked."""
    providers = {
        "http": lambda: OpenAI("text-embedding-3-small"),
        "openai": lambda: OpenAI("text-embedding-3-small", client=openai.OpenAI()),
        "voyageai": lambda: Voyage(
            "voyage-4", client=voyageai.Client("test-voyage-key", base_url=emulator.voyage_base_url)
        ),
    }

    def handle(number, frame):
        raise kind("the job took too long")

    emulator.faults.append(Fault(delay=5))
    provider = providers[through]()
    before = signal.signal(signal.SIGALRM, handle)
    try:
        embedder = Embedder(provider)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(kind, match="the job took too long") as caught:
            embedder.embed(["a secret text"])
        embedder.close()
        assert caught.value.__context__ is None
        assert len(emulator.requests) <= 1
        assert not embedder._engine.documents.main.health._failures
        frames = [trace.frame for trace in caught.traceback if "canary" in repr(trace.frame.f_locals)]
        assert not frames
        gate = embedder._engine.documents.main.gate
        assert (gate._line.in_flight, len(embedder._engine.documents.main.under_way)) == (0, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms on this system")
def test_a_limit_while_a_model_is_loaded_is_the_callers():
    class SlowToLoad(WordLlama):
        def load(self):
            signal.raise_signal(signal.SIGALRM)
            return super().load()

    def handle(number, frame):
        raise SoftTimeLimit

    before = signal.signal(signal.SIGALRM, handle)
    try:
        with Embedder(SlowToLoad()) as embedder, pytest.raises(SoftTimeLimit):
            embedder.embed(["a"])
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms on this system")
@pytest.mark.parametrize("doing", ["get_many", "set_many"])
def test_a_limit_while_a_cache_works_is_the_callers(doing):
    """A cache that fails is a miss; it has not failed here."""

    class Slow(MemoryCache):
        def get_many(self, *args):
            return self._interrupted("get_many", *args)

        def set_many(self, *args):
            return self._interrupted("set_many", *args)

        def _interrupted(self, name, *args):
            if name == doing:
                signal.raise_signal(signal.SIGALRM)
            return getattr(super(), name)(*args)

    def handle(number, frame):
        raise SoftTimeLimit

    before = signal.signal(signal.SIGALRM, handle)
    try:
        with Embedder(cache=Slow()) as embedder:
            for call in (lambda: embedder.embed(["a", "b"]), lambda: embedder.embed_query("a")):
                with pytest.raises(SoftTimeLimit) as caught:
                    call()
                assert caught.value.__context__ is None
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms on this system")
def test_a_limit_that_was_dealt_with_is_not_raised_again(keys, emulator):
    def handle(number, frame):
        raise SoftTimeLimit

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.raise_signal(signal.SIGALRM)
    except SoftTimeLimit:
        emulator.faults.append(Fault(status=400))
        with Embedder(MODEL) as embedder, pytest.raises(BadRequestError):
            embedder.embed(["a"])
        emulator.faults.append(Fault(delay=5))
        slow = OpenAI("text-embedding-3-small", timeout=0.2)
        with Embedder(slow, max_attempts=1) as embedder, pytest.raises(ProviderTimeoutError):
            embedder.embed(["a"])
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("code", "number", "status"),
    [
        (SYNC, "SIGINT", -2),
        (ASYNCIO, "SIGINT", -2),
        (TRIO, "SIGINT", -2),
        (SYNC, "SIGTERM", -15),
        (ASYNCIO, "SIGTERM", -15),
        (HANDLER + SYNC, "SIGTERM", 9),
        (HANDLER + ASYNCIO, "SIGTERM", 9),
        # Not under trio, which allows no exit from a signal handler in the middle of its own work.
        (EXITS, None, 0),
        (ASYNC_EXITS, None, 0),
    ],
    ids=[
        *("sync interrupted", "asyncio interrupted", "trio interrupted", "sync terminated", "asyncio terminated"),
        *("sync exits", "asyncio exits", "a daemon thread is left", "a task is left"),
    ],
)
def test_whoever_leaves_in_the_middle_keeps_what_was_finished(code, number, status, keys, emulator, tmp_path):
    """Of three batches one is finished, the others hang: it is in the cache, and nobody waits for the others."""
    emulator.faults.append(Fault(delay=30, times=9, when=lambda request: b'"text 0"' not in request.raw))
    cache = str(tmp_path / "vectors.db")
    program = tmp_path / "program.py"
    program.write_text(START + code)
    with (
        subprocess.Popen([sys.executable, str(program), cache], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process,
        Embedder(MODEL, cache=cache) as embedder,
    ):
        try:
            until = time.monotonic() + 40
            while embedder._engine.cache.cache.stats().entries < 20:
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.02)
            started = time.monotonic()
            if number is not None:
                process.send_signal(getattr(signal, number))
            _, errors = process.communicate(b"\n", timeout=20)
            assert time.monotonic() - started < 15
        finally:
            process.kill()
        assert process.returncode == status, errors
        if status in (0, 9):
            assert errors == b""
        else:
            assert (b"KeyboardInterrupt" in errors) == (number == "SIGINT")
        first = [f"text {i}" for i in range(20)]
        result = embedder.embed(first)
        assert result.usage.cached_texts == 20
        assert right(result.embeddings, first)
