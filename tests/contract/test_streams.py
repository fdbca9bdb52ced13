"""Streams of texts: their order, their bounds, their errors, and what is left when they are left."""

from __future__ import annotations

import gc
import math
import sys
import threading
import time
import warnings
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import replace

import anyio
import numpy as np
import pytest

from mrlclient import (
    Chunk,
    ConfigurationError,
    DimensionsOutOfRangeError,
    Embedder,
    InputError,
    Limits,
    MissingExtraError,
    OpenAI,
    ProviderError,
    ServerBehaviorWarning,
)
from mrlclient._warn import PACKAGE
from mrlclient.models import catalogue
from mrlclient.testing.emulator import Fault, emulator_vector
from tests.contract.holding import Held

MODEL = "openai:text-embedding-3-small"
UNLIMITED = Limits(math.inf, math.inf)


def hosted(emulator, max_inputs=2048, **options):
    spec = replace(catalogue().models[MODEL], max_inputs=max_inputs)
    provider = OpenAI(spec, api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=30)
    return Embedder(
        provider, **{"limits": UNLIMITED, "dimensions": 256, "on_narrow": "allow", "max_attempts": 1, **options}
    )


@pytest.fixture
def embedder(emulator):
    with hosted(emulator) as embedder:
        yield embedder


def take(backend, embedder, texts, **options):
    """All chunks, and the error that came after them."""
    chunks, failures = [], []

    async def main():
        try:
            async for chunk in embedder.aembed_iter(texts, **options):
                chunks.append(chunk)  # noqa: PERF401  # those before an error count
        except Exception as error:
            failures.append(error)

    if backend == "sync":
        try:
            chunks.extend(embedder.embed_iter(texts, **options))
        except Exception as error:
            failures.append(error)
    else:
        anyio.run(main, backend=backend)
    return chunks, failures.pop() if failures else None


def texts_of(n):
    return [f"text {i}" for i in range(n)]


def check(chunk):
    wanted = [emulator_vector(MODEL, text, dimensions=256) for text in chunk.texts]
    np.testing.assert_allclose(chunk.embeddings, wanted, atol=2e-4)


def begins_with(text, **options):
    return Fault(when=lambda request: request.body["input"][0] == text, **options)


def no_thread_left():
    until = time.monotonic() + 5
    while any(thread.name == "mrlclient" for thread in threading.enumerate()):
        assert time.monotonic() < until, threading.enumerate()
        time.sleep(0.005)


everywhere = pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])
in_loops = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@everywhere
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("n", [0, 1, 10, 23])
def test_chunks_come_in_order(backend, concurrency, n, emulator):
    emulator.faults.append(Fault(delay=0.1))
    texts = texts_of(n)
    with hosted(emulator, max_concurrency=concurrency) as embedder:
        chunks, error = take(backend, embedder, iter(texts), chunk_size=5)
    assert error is None
    assert [chunk.start for chunk in chunks] == list(range(0, n, 5))
    assert [text for chunk in chunks for text in chunk.texts] == texts
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    for chunk in chunks:
        check(chunk)
    no_thread_left()


@everywhere
def test_chunks_come_as_they_are_done(backend, embedder, emulator):
    emulator.faults.append(begins_with("text 0", delay=0.5))
    chunks, error = take(backend, embedder, texts_of(20), chunk_size=2, ordered=False)
    assert error is None
    assert sorted(chunk.start for chunk in chunks) == list(range(0, 20, 2))
    assert chunks[0].start != 0
    for chunk in chunks:
        check(chunk)


def test_asynchronous_texts(embedder):
    async def main():
        async def texts():
            for i in range(10):
                await anyio.sleep(0)
                yield f"text {i}"

        return [chunk async for chunk in embedder.aembed_iter(texts(), chunk_size=4)]

    for backend in ("asyncio", "trio"):
        chunks = anyio.run(main, backend=backend)
        assert [len(chunk.texts) for chunk in chunks] == [4, 4, 2]
        for chunk in chunks:
            check(chunk)


@everywhere
@pytest.mark.parametrize("ordered", [True, False])
def test_the_bounds(backend, ordered, emulator):
    """Three requests at once, six chunks held: a slow consumer stops the reading."""
    read = []

    def texts():
        for i in range(32):
            read.append(threading.get_ident())
            yield f"text {i}"

    emulator.faults.append(Fault(delay=0.02, times=99))
    with hosted(emulator, max_concurrency=3) as embedder:
        if backend == "sync":
            stream = embedder.embed_iter(texts(), chunk_size=2, ordered=ordered)
            assert read == []
            for taken, _ in enumerate(stream, 1):
                time.sleep(0.03)
                assert len(read) <= 2 * (taken + 6)
        else:

            async def main():
                taken = 0
                async for _ in embedder.aembed_iter(texts(), chunk_size=2, ordered=ordered):
                    taken += 1
                    await anyio.sleep(0.03)
                    assert len(read) <= 2 * (taken + 6)

            anyio.run(main, backend=backend)
    assert set(read) == {threading.get_ident()}
    assert len(read) == 32
    assert len(emulator.requests) == 16


@everywhere
def test_no_more_requests_than_allowed(backend, emulator):
    """The limit is that of the stream, whatever the chunks: each of these takes two requests."""
    under_way, most = [], []
    with hosted(emulator, max_inputs=5, max_concurrency=3) as embedder:
        provider = embedder._engine.documents.main.provider
        send, asend = provider.send, provider.asend

        def counted(*arguments):
            under_way.append(None)
            most.append(len(under_way))
            try:
                return send(*arguments)
            finally:
                under_way.pop()

        async def acounted(*arguments):
            under_way.append(None)
            most.append(len(under_way))
            try:
                return await asend(*arguments)
            finally:
                under_way.pop()

        provider.send, provider.asend = counted, acounted
        emulator.faults.append(Fault(delay=0.05, times=99))
        chunks, error = take(backend, embedder, texts_of(60), chunk_size=10)
    assert error is None
    assert len(chunks) == 6
    assert len(most) == 12
    assert max(most) == 3


@everywhere
@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_error_comes_at_its_place(backend, concurrency, emulator):
    emulator.faults.extend([begins_with("text 0", delay=0.3), begins_with("text 8", status=500)])
    with hosted(emulator, max_concurrency=concurrency) as embedder:
        chunks, error = take(backend, embedder, texts_of(400), chunk_size=4)
    assert [chunk.start for chunk in chunks] == [0, 4]
    assert isinstance(error, ProviderError)
    assert error.status == 500
    assert len(emulator.requests) < 20, "a stream that has failed goes on"
    no_thread_left()


@everywhere
def test_an_error_comes_at_once(backend, embedder, emulator):
    emulator.faults.extend([begins_with("text 0", delay=30), begins_with("text 8", status=500)])
    started = time.monotonic()
    chunks, error = take(backend, embedder, texts_of(400), chunk_size=4, ordered=False)
    assert time.monotonic() - started < 15
    # It takes with it what nobody waited for.
    emulator.close()
    assert 0 not in [chunk.start for chunk in chunks]
    assert error.status == 500
    no_thread_left()


@everywhere
def test_positions_count_in_the_whole_stream(backend, embedder):
    texts = texts_of(25)
    texts[17] = "whale " * 50_000
    chunks, error = take(backend, embedder, texts, chunk_size=10)
    assert [chunk.start for chunk in chunks] == [0]
    assert error.index == 17
    assert str(error).startswith("Text 17: ")
    assert list(error.partial.errors) == [7]
    assert error.partial.errors[7].index == 17
    for bad in (" ", 3, "\ud800"):
        texts[17] = bad
        chunks, error = take(backend, embedder, texts, chunk_size=10)
        assert [chunk.start for chunk in chunks] == [0]
        assert isinstance(error, InputError)
        assert error.index == 17
        assert str(error).startswith("Text 17 ")


@everywhere
def test_what_could_be_had(backend, embedder, emulator):
    """A chunk whose only text is refused is no reason to end a stream; a server that is down is."""
    texts = [*texts_of(10), "whale " * 50_000]
    chunks, error = take(backend, embedder, texts, chunk_size=5, on_error="return")
    assert error is None
    assert [chunk.start for chunk in chunks] == [0, 5, 10]
    assert list(chunks[2].result.errors) == [0]
    assert chunks[2].result.errors[0].index == 10
    assert np.isnan(chunks[2].embeddings).all()
    emulator.faults.append(begins_with("text 5", status=500))
    chunks, error = take(backend, embedder, texts, chunk_size=5, on_error="return")
    assert [chunk.start for chunk in chunks] == [0]
    assert error.status == 500


class OwnError(Exception):
    pass


@everywhere
def test_an_error_of_the_texts_comes_last_and_unchanged(backend, embedder):
    raised = OwnError("mine")

    def texts():
        yield from texts_of(7)
        raise raised

    chunks, error = take(backend, embedder, texts(), chunk_size=3)
    assert [len(chunk.texts) for chunk in chunks] == [3, 3, 1]
    assert error is raised
    assert error.__context__ is None
    no_thread_left()


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"chunk_size": 0}, ConfigurationError),
        ({"chunk_size": True}, ConfigurationError),
        ({"ordered": 1}, ConfigurationError),
        ({"progress": "yes"}, ConfigurationError),
        ({"on_error": "ignore"}, ConfigurationError),
        ({"dimensions": 5000}, DimensionsOutOfRangeError),
        ({"input_type": "passage"}, ConfigurationError),
        ({"task": "clustering"}, ConfigurationError),
        ({"texts": "one text"}, InputError),
        ({"texts": b"one text"}, InputError),
        ({"texts": {"a": "b"}}, InputError),
        ({"texts": 3}, InputError),
    ],
)
def test_bad_arguments_are_refused_at_the_call(embedder, options, kind):
    def texts():
        raise AssertionError("a text was read")
        yield

    for face in (embedder.embed_iter, embedder.aembed_iter):
        with pytest.raises(kind):
            face(**{"texts": texts(), **options})


@everywhere
def test_a_closed_embedder(backend, emulator):
    embedder = hosted(emulator)

    def texts():
        yield from texts_of(10)
        embedder.close()
        yield from texts_of(100)

    _, error = take(backend, embedder, texts(), chunk_size=2)
    assert isinstance(error, ConfigurationError)
    assert "closed" in str(error)
    with pytest.raises(ConfigurationError, match="closed"):
        embedder.embed_iter(["a"])
    no_thread_left()


@pytest.mark.parametrize("way", ["break", "close", "error", "collected", "exhausted"])
def test_no_thread_is_left(way, embedder, emulator):
    """Nobody waits for a request that hangs."""
    started = time.monotonic()
    stream = embedder.embed_iter(texts_of(8 if way == "exhausted" else 1000), chunk_size=2)
    no_thread_left()
    if way != "exhausted":
        emulator.faults.append(begins_with("text 4", delay=30))
    assert next(stream).start == 0
    assert any(thread.name == "mrlclient" for thread in threading.enumerate())
    if way == "break":
        for _ in stream:
            break
        del _, stream
    elif way == "close":
        stream.close()
        assert list(stream) == []
    elif way == "collected":
        holder = [stream]
        holder.append(holder)
        del stream, holder
        gc.collect()
    elif way == "error":
        with pytest.raises(ZeroDivisionError):
            stream._order.progress.tell(1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(embedder.embed_iter(["a"] * 9, chunk_size=2, progress=lambda done: 1 / 0))
        del stream
    else:
        assert len(list(stream)) == 3
    assert time.monotonic() - started < 15
    # It takes with it what nobody waited for.
    emulator.close()
    no_thread_left()


@in_loops
@pytest.mark.parametrize("way", ["break", "error", "aclose", "collected", "cancelled", "end of the loop"])
def test_no_task_is_left(backend, way, emulator):
    emulator.faults.append(begins_with("text 4", delay=20))
    ended = []
    running = ContextVar("running", default="nobody")

    async def main():
        async with hosted(emulator) as embedder:
            provider = embedder._engine.documents.main.provider
            asend = provider.asend

            async def watched(*arguments):
                assert running.get() == "the test"
                ended.append(False)
                number = len(ended) - 1
                try:
                    return await asend(*arguments)
                finally:
                    ended[number] = True

            provider.asend = watched
            running.set("the test")
            stream = embedder.aembed_iter(texts_of(1000), chunk_size=2)
            if way == "break":
                async for _ in stream:
                    break
                del stream
            elif way == "error":
                with pytest.raises(ZeroDivisionError):  # noqa: PT012
                    async for _ in stream:
                        1 / 0  # noqa: B018
                del stream
            elif way == "aclose":
                async with aclosing(stream):
                    await anext(stream)
                assert [chunk async for chunk in stream] == []
            elif way == "collected":
                await anext(stream)
                holder = [stream]
                holder.append(holder)
                del stream, holder
                await anyio.to_thread.run_sync(gc.collect)
            elif way == "cancelled":
                with pytest.raises(TimeoutError), anyio.fail_after(0.3):
                    async for _ in stream:
                        pass
                assert [chunk async for chunk in stream] == []
            else:
                await anext(stream)
                return stream
            with anyio.fail_after(5):
                while not all(ended):
                    await anyio.sleep(0.005)
        return None

    started = time.monotonic()
    anyio.run(main, backend=backend)
    gc.collect()
    assert ended
    assert all(ended)
    assert time.monotonic() - started < 15


@everywhere
def test_two_streams_in_turn(backend, embedder):
    other = [f"other {i}" for i in range(12)]
    if backend == "sync":
        pairs = list(
            zip(
                embedder.embed_iter(texts_of(12), chunk_size=3),
                embedder.embed_iter(other, chunk_size=3),
                strict=True,
            )
        )
    else:

        async def main():
            second = embedder.aembed_iter(other, chunk_size=3)
            return [(one, await anext(second)) async for one in embedder.aembed_iter(texts_of(12), chunk_size=3)]

        pairs = anyio.run(main, backend=backend)
    assert [(one.start, two.start) for one, two in pairs] == [(i, i) for i in range(0, 12, 3)]
    for one, two in pairs:
        check(one)
        check(two)


@everywhere
def test_duplicates_and_the_cache(backend, emulator):
    with hosted(emulator, cache="memory:") as embedder:
        chunks, error = take(backend, embedder, ["a", "b", "a", "c", "b", "b", "a", "d"] * 5, chunk_size=4)
    assert error is None
    assert sum(len(request.body["input"]) for request in emulator.requests) == 4
    for chunk in chunks:
        check(chunk)


@everywhere
def test_a_note_is_told_once_and_here(backend, embedder, emulator):
    emulator.faults.append(Fault(ignore_fields=("dimensions",), times=99))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, error = take(backend, embedder, texts_of(30), chunk_size=3)
    assert error is None
    assert [warning.category for warning in caught] == [ServerBehaviorWarning]
    assert caught[0].filename == __file__


@everywhere
def test_the_caller_is_told_how_far_it_is(backend, embedder):
    told = []
    take(backend, embedder, texts_of(10), chunk_size=4, progress=told.append)
    assert told == [4, 8, 10]


@everywhere
def test_a_bar(backend, embedder, capsys, monkeypatch):
    """One line at the end where standard error is no terminal, after an error too."""
    pytest.importorskip("rich")
    take(backend, embedder, texts_of(10), chunk_size=4, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "10/10 texts" in err
    take(backend, embedder, iter([*texts_of(8), ""]), chunk_size=4, progress=True)
    assert "8/? texts" in capsys.readouterr().err


def test_a_bar_without_rich(embedder, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mrlclient\[cli\]'"):
        embedder.embed_iter(["a"], progress=True)


def test_a_local_model_takes_no_thread():
    pytest.importorskip("wordllama")
    with Embedder(dimensions=64) as embedder:
        for count, chunk in enumerate(embedder.embed_iter(texts_of(100), chunk_size=10)):
            assert not any(thread.name == "mrlclient" for thread in threading.enumerate())
            assert chunk.start == 10 * count
            np.testing.assert_allclose(chunk.embeddings, embedder.embed(chunk.texts).embeddings, atol=1e-6)


def test_two_threads_at_one_stream(embedder, emulator):
    held = Held()
    emulator.faults.append(replace(held.fault, when=begins_with("text 0").when))
    stream = embedder.embed_iter(texts_of(10), chunk_size=2)
    first = []
    thread = threading.Thread(target=lambda: first.append(next(stream)))
    thread.start()
    assert held.asked.wait(10)
    with pytest.raises(ConfigurationError, match="Another thread"):
        next(stream)
    held.go.set()
    thread.join()
    assert [first[0].start, *(chunk.start for chunk in stream)] == [0, 2, 4, 6, 8]


@everywhere
@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_text_is_in_a_frame_of_an_error(backend, concurrency, emulator):
    emulator.faults.append(Fault(status=500, times=9))
    with hosted(emulator, max_concurrency=concurrency) as embedder:
        _, error = take(backend, embedder, [f"secret {i}" for i in range(20)], chunk_size=3)
    assert error.status == 500
    assert error.__context__ is None
    trace, ours = error.__traceback__, []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
            ours.append(str(trace.tb_frame.f_locals))
        trace = trace.tb_next
    assert ours
    assert not any("secret" in shown for shown in ours)
