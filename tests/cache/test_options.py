"""What is no option of a cache, and no path, is said at once."""

from __future__ import annotations

import os

import pytest

from mrlclient import Canary, Embedder
from mrlclient.cache import MemoryCache, RedisCache, SQLiteCache, open_cache
from mrlclient.errors import ConfigurationError

NO_TIMES = ["3600", float("nan"), float("inf"), True, 0, -1]
NO_BYTES = ["1G", float("nan"), 1e9, True, 0, -1]


def make(kind, tmp_path, **options):
    where = {MemoryCache: (), SQLiteCache: (tmp_path / "cache",), RedisCache: ("redis://localhost",)}[kind]
    return kind(*where, **options)


@pytest.mark.parametrize("ttl", NO_TIMES)
@pytest.mark.parametrize("kind", [MemoryCache, SQLiteCache, RedisCache])
def test_no_lifetime(kind, ttl, tmp_path):
    with pytest.raises(ConfigurationError, match="ttl of a cache"):
        make(kind, tmp_path, ttl=ttl)


@pytest.mark.parametrize("max_bytes", NO_BYTES)
@pytest.mark.parametrize("kind", [MemoryCache, SQLiteCache])
def test_no_bound(kind, max_bytes, tmp_path):
    with pytest.raises(ConfigurationError, match="max_bytes of a cache"):
        make(kind, tmp_path, max_bytes=max_bytes)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        *(({"timeout": timeout}, "timeout") for timeout in NO_TIMES),
        ({"prefix": b"x"}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"secret": "s" * 32}, "secret"),
        ({"stored_type": "int8"}, "stored_type"),
    ],
)
def test_no_option_of_a_server(options, named, tmp_path):
    with pytest.raises(ConfigurationError, match=named):
        make(RedisCache, tmp_path, **options)


@pytest.mark.parametrize("kind", [SQLiteCache, Canary])
@pytest.mark.parametrize("path", [None, 7, b"bytes", "", "a\0b", os.fsdecode(b"\xff.db"), "~nobody-of-this-name/x"])
def test_no_path(kind, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError):
        kind(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a b", "ü 模型", "100%41?#", "file:x?mode=memory", "line\nbreak", "it's"])
def test_any_other_path(name, tmp_path):
    if os.name != "posix":
        pytest.skip("not all of these are names there")
    cache = SQLiteCache(tmp_path / name / name)
    assert len(cache.secret) == 32
    cache.close()
    assert [each.name for each in (tmp_path / name).iterdir()] == [name]


@pytest.mark.parametrize("address", [":memory:", "sqlite::memory:"])
def test_what_sqlite_calls_memory_is_no_file(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for opening in (open_cache, lambda where: Embedder(cache=where)):
        with pytest.raises(ConfigurationError, match="'memory:'"):
            opening(address)
    assert not list(tmp_path.iterdir())


def test_a_root_that_may_not_be_made_again(tmp_path, monkeypatch):
    """Windows says of a drive, and macOS of the root, that it is forbidden to make, not that it exists."""
    make_folder = os.mkdir

    def forbid(path, *arguments, **options):
        if os.path.ismount(path):
            raise PermissionError(13, "Access is denied", str(path))
        make_folder(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", forbid)
    SQLiteCache(tmp_path / "new" / "cache").close()
    canary = Canary(tmp_path / "other" / "canary.json")
    with pytest.raises(ConfigurationError, match="holds nothing"):
        canary.accept("openai:none")  # past the lock, which lies in that folder
