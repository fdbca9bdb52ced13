"""An embedder over each kind of cache: paid once, served narrower, and found again by others."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from mrlclient import CacheWarning, Embedder, OpenAI
from mrlclient.cache import RedisCache, SQLiteCache
from mrlclient.testing.emulator import emulator_vector
from mrlclient.vectors import truncate_dimensions

TEXTS = [f"text number {i}" for i in range(7)]
MODEL = "openai:text-embedding-3-small"


@pytest.fixture(params=["memory", "file", "server"])
def address(request, tmp_path):
    """Where the vectors are kept."""
    if request.param == "memory":
        return "memory:"
    if request.param == "file":
        return f"sqlite:{tmp_path / 'folder' / 'vectors.db'}"
    return request.getfixturevalue("url")


def embedder_on(emulator, cache, **options):
    provider = OpenAI(MODEL.partition(":")[2], api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    return Embedder(provider, cache=cache, on_narrow="allow", **options)


@pytest.mark.parametrize("fetch", ["requested", "native"])
def test_paid_once_and_served_narrower(address, fetch, emulator, request):
    # The server is shared by the tests: each asks for texts of its own.
    texts = [f"{request.node.name} {text}" for text in TEXTS]
    full = np.array([emulator_vector(MODEL, text) for text in texts])
    with embedder_on(emulator, address, fetch=fetch) as embedder:
        for width, requests in ((512, 1), (511, 1), (64, 1), (1024, 2), (512, 2)):
            result = embedder.embed(texts, dimensions=width)
            np.testing.assert_allclose(result.embeddings, truncate_dimensions(full, width), atol=1e-3)
            assert len(emulator.requests) == (1 if fetch == "native" else requests)
        assert result.usage.cached_texts == len(texts)
        assert result.usage.saved_usd == pytest.approx(result.usage.cached_tokens * 0.02e-6)


def test_another_process_finds_it(address, emulator, request):
    if address == "memory:":
        pytest.skip("belongs to one process")
    texts = [f"{request.node.name} {text}" for text in TEXTS]
    with embedder_on(emulator, address) as embedder:
        embedder.embed(texts)
    code = (
        "import sys\n"
        "from mrlclient import Embedder, OpenAI\n"
        f"provider = OpenAI('text-embedding-3-small', base_url={emulator.openai_base_url!r}, api_key='wrong')\n"
        f"with Embedder(provider, cache={address!r}, dimensions=512) as embedder:\n"
        f"    print(embedder.embed({texts!r}).usage.cached_texts)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == len(texts)
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("face", ["asyncio", "trio"])
def test_async_too(address, face, emulator, request):
    import anyio

    text = f"{request.node.name} text"

    async def main():
        async with embedder_on(emulator, address) as embedder:
            first = await embedder.aembed_query(text)
            return first, await embedder.aembed_query(text)

    first, second = anyio.run(main, backend=face)
    np.testing.assert_array_equal(first, second)
    assert len(emulator.requests) == 1


def test_a_server_that_is_gone_is_a_miss_and_one_warning(start_server, emulator):
    server = start_server()
    with embedder_on(emulator, f"unix://{server.unix_socket_path}") as embedder:
        embedder.embed_query("a")
        server.stop()
        with pytest.warns(CacheWarning) as caught:
            answers = [embedder.embed_query("a") for _ in range(3)]
        assert len(answers) == 3
        assert len(caught) == 1
    assert len(emulator.requests) == 4


def test_a_server_that_was_never_there_is_a_miss(tmp_path, emulator):
    with embedder_on(emulator, f"unix://{tmp_path}/nobody") as embedder, pytest.warns(CacheWarning):
        np.testing.assert_allclose(embedder.embed_query("a"), emulator_vector(MODEL, "a"), atol=1e-6)


def test_a_file_that_is_damaged_under_way_is_a_miss(tmp_path, emulator):
    path = tmp_path / "vectors.db"
    cache = SQLiteCache(path)
    with embedder_on(emulator, cache) as embedder:
        embedder.embed(TEXTS)
        cache.close()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        with pytest.warns(CacheWarning):
            result = embedder.embed(TEXTS)
    np.testing.assert_allclose(result.embeddings, [emulator_vector(MODEL, text) for text in TEXTS], atol=1e-6)


def test_no_text_and_no_key_is_in_the_file(tmp_path, emulator):
    path = tmp_path / "vectors.db"
    with embedder_on(emulator, path) as embedder:
        embedder.embed(["canary text"])
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"canary" not in data
    assert emulator.openai_key.encode() not in data


@pytest.mark.parametrize("kind", ["file", "server"])
def test_float16_costs_little(kind, tmp_path, url, prefix, emulator):
    """Eleven bits of each number: cosines differ by less than 1e-6, which the page on caching says."""
    kept = (
        SQLiteCache(tmp_path / "half.db", stored_type="float16")
        if kind == "file"
        else RedisCache(url, prefix=prefix, stored_type="float16")
    )
    with embedder_on(emulator, kept) as embedder:
        exact, half = embedder.embed(TEXTS), embedder.embed(TEXTS)
    kept.close()
    assert half.usage.cached_texts == len(TEXTS)
    assert not np.array_equal(exact.embeddings, half.embeddings)
    cosines = (exact.embeddings.astype(np.float64) * half.embeddings).sum(axis=1)
    assert np.abs(cosines - 1).max() < 1e-6
    np.testing.assert_allclose(np.linalg.norm(half.embeddings, axis=1), 1, atol=1e-6)
