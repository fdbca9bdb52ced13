"""A query that the cache has takes a shorter way: to whoever asks, nothing of it can be seen."""

from __future__ import annotations

import dataclasses
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import numpy as np
import pytest

from mrlclient import ConfigurationError, Embedder, InputError, Nomic, OpenAI
from mrlclient.cache import MemoryCache
from mrlclient.testing.emulator import Fault, emulator_vector
from tests.conftest import TINY_NOMIC

MODEL = "openai:text-embedding-3-small"


@pytest.fixture
def cache():
    return MemoryCache()


@pytest.fixture
def embedder(emulator, cache):
    provider = OpenAI(MODEL.partition(":")[2], api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    with Embedder(provider, dimensions=300, cache=cache, on_narrow="allow") as embedder:
        yield embedder


def test_it_is_the_row_that_a_call_gives(embedder, emulator, cache):
    sent = embedder.embed_query("a")
    found = embedder.embed_query("a")
    assert found.shape == (300,)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, sent)
    np.testing.assert_array_equal(found, embedder.embed(["a"], input_type="query")[0])
    np.testing.assert_array_equal(found, anyio.run(embedder.aembed_query, "a"))
    assert len(emulator.requests) == 1
    assert (cache.stats().hits, cache.stats().misses) == (3, 1)


def test_what_it_returns_is_the_callers(embedder):
    embedder.embed_query("a")
    embedder.embed_query("a")[:] = 0
    assert np.linalg.norm(embedder.embed_query("a")) == pytest.approx(1)


def test_a_wider_vector_serves_it(embedder, emulator):
    embedder.embed(["a"], dimensions=1024, input_type="query")
    row = embedder.embed_query("a")
    full = emulator_vector(MODEL, "a")[:300]
    np.testing.assert_allclose(row, full / np.linalg.norm(full), atol=1e-3)
    assert len(emulator.requests) == 1


def test_a_kept_vector_that_has_no_direction_at_this_width_is_looked_at_once(embedder, emulator, cache):
    embedder.embed(["a"], dimensions=1536, input_type="query")
    [entry] = cache.items()
    vector = entry.vector.copy()
    vector[:300] = 0
    cache.clear()
    cache.set_many([dataclasses.replace(entry, vector=vector)])
    before = cache.stats().hits
    assert np.linalg.norm(embedder.embed_query("a")) == pytest.approx(1)
    assert (cache.stats().hits - before, len(emulator.requests)) == (1, 2)


@pytest.mark.parametrize("text", ["", " \n", "a\ud800", None, 7, b"a", ["a"]])
def test_what_cannot_be_embedded_is_refused_as_ever(embedder, emulator, text):
    with pytest.raises(InputError):
        embedder.embed_query(text)
    with pytest.raises(InputError):
        anyio.run(embedder.aembed_query, text)
    assert not emulator.requests


def test_a_string_of_another_class_is_the_text_that_it_holds(embedder, emulator):
    class Text(str):
        __slots__ = ()

        def __eq__(self, other):
            return True

        __hash__ = str.__hash__

    embedder.embed_query("a")
    assert not np.array_equal(embedder.embed_query(Text("b")), embedder.embed_query("a"))
    assert [each.body["input"] for each in emulator.requests] == [["a"], ["b"]]


def test_closed_is_closed(embedder):
    embedder.embed_query("a")
    embedder.close()
    with pytest.raises(ConfigurationError):
        embedder.embed_query("a")
    with pytest.raises(ConfigurationError):
        anyio.run(embedder.aembed_query, "a")


def test_many_who_ask_at_once_make_one_request(embedder, emulator, cache):
    emulator.faults.append(Fault(delay=0.3))
    start = threading.Barrier(16)

    def ask(_):
        start.wait()
        return embedder.embed_query("a")

    with ThreadPoolExecutor(16) as pool:
        rows = list(pool.map(ask, range(16)))
    assert all(np.array_equal(row, rows[0]) for row in rows)
    assert len(emulator.requests) == 1


def test_it_is_logged(embedder, caplog):
    embedder.embed_query("a")
    with caplog.at_level(logging.DEBUG, logger="mrlclient"):
        embedder.embed_query("a")
    assert [(record.mrl_event, record.mrl_texts, record.mrl_missing) for record in caplog.records] == [("found", 1, 0)]


def test_a_centred_model_is_cut_from_its_full_width():
    with Embedder(Nomic(model_path=TINY_NOMIC), dimensions=16, cache="memory:", on_narrow="allow") as embedder:
        sent = embedder.embed_query("a query")
        np.testing.assert_array_equal(embedder.embed_query("a query"), sent)
        np.testing.assert_array_equal(
            embedder.embed_query("a query"), embedder.embed(["a query"], input_type="query")[0]
        )
