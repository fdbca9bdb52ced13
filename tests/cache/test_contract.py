"""Every cache passes the one contract."""

from __future__ import annotations

import itertools

import pytest

from mrlclient.cache import MemoryCache, RedisCache
from mrlclient.testing.cache_contract import CacheContract


class TestMemory(CacheContract):
    has_max_bytes = True

    def make_cache(self, **options):
        return MemoryCache(**options)


class TestSQLite(CacheContract):
    has_max_bytes = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.sqlite = pytest.importorskip("mrlclient.cache.sqlite")
        self.files = (tmp_path / f"{i}.sqlite" for i in itertools.count())
        self.opened = {}

    def make_cache(self, **options):
        return self.open(next(self.files), **options)

    def open(self, file, **options):
        cache = self.sqlite.SQLiteCache(file, stored_type=self.stored_type, **options)
        self.opened[cache] = file
        return cache

    def reopen(self, cache):
        cache.close()
        return self.open(self.opened.pop(cache))


class TestSQLiteFloat16(TestSQLite):
    stored_type = "float16"


class TestRedis(CacheContract):
    @pytest.fixture(autouse=True)
    def _server(self, url, prefix):
        self.url = url
        self.prefixes = (f"{prefix}{i}:" for i in itertools.count())
        self.opened = {}

    def make_cache(self, **options):
        return self.open(next(self.prefixes), **options)

    def open(self, prefix, **options):
        cache = RedisCache(self.url, prefix=prefix, stored_type=self.stored_type, **options)
        self.opened[cache] = prefix
        return cache

    def reopen(self, cache):
        cache.close()
        return self.open(self.opened.pop(cache))


class TestRedisFloat16(TestRedis):
    stored_type = "float16"
