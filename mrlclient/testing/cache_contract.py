"""What every cache must do, as a pytest class: subclass it, define `make_cache`, and run it.

The file has more than 300 lines because the contract is one class, whose tests belong together.

::

    class TestAcme(CacheContract):
        def make_cache(self, **options: Any) -> Cache:
            return AcmeCache(**options)
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from mrlclient.cache.base import Cache, Entry, Found

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Widths around the edges of what vectors are stored in, and some that models have.
WIDTHS = (1, 63, 64, 65, 300, 1536, 3072)


class CacheContract:
    """The contract.

    Attributes:
        stored_type: The type in which numbers are stored. What is read must be exactly the numbers in that type.
        has_ttl: Whether `make_cache` takes `ttl`.
        has_max_bytes: Whether `make_cache` takes `max_bytes`.
        examples: How many random histories are compared with a plain dict.
    """

    stored_type: ClassVar[str] = "float32"
    has_ttl: ClassVar[bool] = True
    has_max_bytes: ClassVar[bool] = False
    examples: ClassVar[int] = 25

    def make_cache(self, **options: Any) -> Cache:
        """A fresh, empty cache that shares nothing with earlier ones; with `ttl` or `max_bytes` if given."""
        raise NotImplementedError

    def reopen(self, cache: Cache) -> Cache | None:
        """Closes a cache and opens what it stored again; None if it stores nothing."""
        return None

    def read_back(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """What must be read of a vector that was stored."""
        return vector.astype(self.stored_type).astype(np.float32)

    @pytest.fixture
    def cache(self) -> Iterator[Cache]:
        """A fresh cache, closed afterwards, twice."""
        cache = self.make_cache()
        yield cache
        cache.close()
        cache.close()

    def test_finds_what_was_set(self, cache: Cache) -> None:
        """Rows come back in the order of the keys, with what they cost; missing ones add no cost."""
        cache.set_many([make_entry(i, 64, tokens=2.0**i, usd=0.5**i) for i in range(5)])
        asked = [4, 99, 0, 2, 98]
        found, rows = get(cache, asked, 64)
        assert found.mask.tolist() == [True, False, True, True, False]
        assert (found.tokens, found.usd) == (16 + 1 + 4, 0.5**4 + 1 + 0.25)
        for i in (0, 2, 3):
            np.testing.assert_array_equal(rows[i], self.read_back(make_vector(asked[i], 64)))

    def test_nothing_asked(self, cache: Cache) -> None:
        """No keys, no entries and an empty cache are not errors."""
        cache.set_many([])
        found, _ = get(cache, [], 64)
        assert (found.mask.shape, found.tokens, found.usd) == ((0,), 0, 0)
        assert list(cache.items()) == []
        assert (cache.clear(), cache.prune(), cache.verify(), cache.stats().entries) == (0, 0, (0, 0), 0)

    @pytest.mark.parametrize("stored", WIDTHS)
    def test_every_narrower_width_is_the_prefix(self, cache: Cache, stored: int) -> None:
        """Any width up to the stored one is found, exactly; a wider one is a miss."""
        cache.set_many([make_entry(7, stored)])
        whole = self.read_back(make_vector(7, stored))
        for width in sorted({*(w for w in WIDTHS if w <= stored), max(1, stored - 1), stored // 2 or 1}):
            found, rows = get(cache, [7], width)
            assert found.mask.tolist() == [True], width
            np.testing.assert_array_equal(rows[0], whole[:width])
        assert not get(cache, [7], stored + 1)[0].mask.any()

    @pytest.mark.parametrize("together", [False, True])
    @pytest.mark.parametrize("widths", [(64, 300), (300, 64), (65, 64), (128, 128)])
    def test_the_widest_stays(self, cache: Cache, widths: tuple[int, int], together: bool) -> None:
        """A wider vector replaces a narrower one, never the reverse, in one call or in two."""
        entries = [Entry(make_key(1), make_vector(10 + i, width)) for i, width in enumerate(widths)]
        for part in [entries] if together else [entries[:1], entries[1:]]:
            cache.set_many(part)
        widest = max(entries, key=lambda entry: len(entry.vector)).vector
        found, rows = get(cache, [1], len(widest))
        assert found.mask.all()
        np.testing.assert_array_equal(rows[0], self.read_back(widest))
        assert cache.stats().entries == 1

    def test_numbers_are_exact(self, cache: Cache) -> None:
        """Numbers are only rounded to the stored type: zeros, signs, tiny numbers, infinities and NaN."""
        odd = np.array([0.0, -0.0, 1e-40, -1e-7, 1 / 3, 65504.0, np.inf, -np.inf, np.nan] * 9, dtype=np.float32)
        cache.set_many([Entry(make_key(1), odd)])
        _, rows = get(cache, [1], len(odd))
        assert rows[0].tobytes() == self.read_back(odd).tobytes()

    def test_holds_its_own_copy(self, cache: Cache) -> None:
        """Changing the arrays afterwards does not change the cache."""
        vector = make_vector(1, 64)
        cache.set_many([Entry(make_key(1), vector)])
        vector[:] = 7
        _, rows = get(cache, [1], 64)
        rows[:] = 8
        for entry in cache.items():
            with suppress(ValueError):  # it may refuse
                entry.vector[:] = 9
        np.testing.assert_array_equal(get(cache, [1], 64)[1][0], self.read_back(make_vector(1, 64)))

    def test_keys_are_any_bytes(self, cache: Cache) -> None:
        """Zeros, line ends, quotes, wildcards and invalid UTF-8 are keys like any other."""
        keys = [bytes([byte]) * 32 for byte in (0, 10, 13, 34, 37, 39, 42, 63, 91, 92, 128, 255)]
        keys += [b"\0" * 31 + b"\1", b"\0\xff" * 16, b"*" * 31 + b"?"]
        cache.set_many([Entry(key, make_vector(i, 8)) for i, key in enumerate(keys)])
        out = np.empty((len(keys), 8), dtype=np.float32)
        assert cache.get_many(keys, 8, out).mask.all()
        np.testing.assert_array_equal(out, [self.read_back(make_vector(i, 8)) for i in range(len(keys))])
        assert {entry.key for entry in cache.items()} == set(keys)
        assert cache.clear() == len(keys)

    def test_many_keys(self, cache: Cache) -> None:
        """5,000 keys in one call, a third of them unknown."""
        cache.set_many([Entry(make_key(i), np.full(64, i % 1000, dtype=np.float32)) for i in range(5000) if i % 3])
        found, rows = get(cache, range(5000), 48)
        assert found.mask.tolist() == [bool(i % 3) for i in range(5000)]
        np.testing.assert_array_equal(rows[found.mask, 47], [i % 1000 for i in range(5000) if i % 3])

    def test_counts(self, cache: Cache) -> None:
        """Hits, misses, and what the hits saved."""
        cache.set_many([make_entry(i, 64, tokens=3, usd=1e-6) for i in range(4)])
        get(cache, [0, 1, 9], 64)
        get(cache, [2], 65)
        stats = cache.stats()
        assert (stats.entries, stats.hits, stats.misses) == (4, 2, 2)
        assert stats.tokens_saved == 6
        assert stats.usd_saved == pytest.approx(2e-6)
        assert stats.bytes > 4 * 64 * np.dtype(self.stored_type).itemsize

    def test_items(self, cache: Cache) -> None:
        """Everything comes out again, so that a cache can be copied into another."""
        given = {i: make_entry(i, 60 + i, model=f"açme:модель-{i}", tokens=i, usd=i / 8) for i in range(1, 4)}
        cache.set_many(list(given.values()))
        items = {entry.key: entry for entry in cache.items()}
        assert set(items) == {make_key(i) for i in given}
        for entry in given.values():
            item = items[entry.key]
            assert (item.model, item.tokens, item.usd) == (entry.model, entry.tokens, entry.usd)
            assert abs(item.created - time.time()) < 60
            np.testing.assert_array_equal(item.vector, self.read_back(entry.vector))
        other = self.make_cache()
        other.set_many(list(items.values()))
        assert {entry.created for entry in other.items()} == {entry.created for entry in items.values()}
        other.close()

    def test_verify_and_clear(self, cache: Cache) -> None:
        """An intact cache passes `verify`; a cleared one is empty and can be filled again."""
        cache.set_many([make_entry(i, 65) for i in range(20)])
        assert cache.verify() == (20, 0)
        assert cache.clear() == 20
        assert not get(cache, range(20), 1)[0].mask.any()
        assert (list(cache.items()), cache.stats().entries) == ([], 0)
        cache.set_many([make_entry(3, 65)])
        assert get(cache, [3], 65)[0].mask.all()

    def test_secrets(self, cache: Cache) -> None:
        """Each store has a secret of its own, and does not see what another store holds."""
        other = self.make_cache()
        assert 16 <= len(cache.secret) <= 64
        assert cache.secret == cache.secret != other.secret
        cache.set_many([make_entry(1, 64)])
        assert not get(other, [1], 64)[0].mask.any()
        assert (other.stats().entries, other.clear(), cache.stats().entries) == (0, 0, 1)
        other.close()

    def test_threads(self, cache: Cache) -> None:
        """Threads that read and write the same keys only see whole and correct rows."""
        start = threading.Barrier(8)

        def work(seed: int) -> None:
            random = np.random.default_rng(seed)
            start.wait()
            for _ in range(25):
                keys = random.permutation(12)[:6].tolist()
                cache.set_many([make_entry(i, int(random.integers(1, 200))) for i in keys[:3]])
                width = int(random.integers(1, 200))
                found, rows = get(cache, keys, width)
                for i, row in zip(np.array(keys)[found.mask], rows[found.mask], strict=True):
                    np.testing.assert_array_equal(row, self.read_back(make_vector(int(i), width)))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        stats = cache.stats()
        assert stats.hits + stats.misses == 8 * 25 * 6
        assert cache.verify() == (12, 0)

    def test_reopened(self, cache: Cache) -> None:
        """A reopened cache has its vectors, its secret and its counts."""
        cache.set_many([make_entry(i, 300, tokens=2) for i in range(3)])
        get(cache, [0, 9], 64)
        secret = cache.secret
        again = self.reopen(cache)
        if again is None:
            pytest.skip("leaves nothing")
        assert again.secret == secret
        stats = again.stats()
        assert (stats.entries, stats.hits, stats.misses, stats.tokens_saved) == (3, 1, 1, 2)
        found, rows = get(again, [2, 1, 0], 300)
        assert found.mask.all()
        np.testing.assert_array_equal(rows, [self.read_back(make_vector(i, 300)) for i in (2, 1, 0)])
        again.close()

    def test_too_old(self) -> None:
        """An expired entry is a miss, gives way to a narrower one, and can be pruned."""
        if not self.has_ttl:
            pytest.skip("keeps for ever")
        cache, old = self.make_cache(ttl=60), time.time() - 61
        cache.set_many([make_entry(1, 128, created=old), make_entry(2, 128, created=old + 31)])
        assert get(cache, [1, 2], 64)[0].mask.tolist() == [False, True]
        assert make_key(1) not in {entry.key for entry in cache.items()}
        cache.set_many([make_entry(1, 64), make_entry(3, 64, created=old)])
        assert get(cache, [1, 2, 3], 64)[0].mask.tolist() == [True, True, False]
        assert cache.prune() in (0, 1)  # 0 where it was never taken in
        assert cache.stats().entries == 2
        cache.close()

    def test_bounded(self) -> None:
        """A bounded cache stays within its bound, and keeps the newest entries."""
        if not self.has_max_bytes:
            pytest.skip("has no bound")
        cache = self.make_cache(max_bytes=2**20)
        for start in range(0, 1500, 50):
            cache.set_many([make_entry(i, 1024) for i in range(start, start + 50)])
        cache.prune()
        assert cache.stats().bytes <= 2**20
        assert 0 < cache.stats().entries < 600
        assert get(cache, [1499], 1024)[0].mask.all()
        assert not get(cache, [0], 1)[0].mask.any()
        cache.close()

    def test_any_history(self) -> None:
        """After any sequence of operations the cache holds what a plain dict would."""
        stateful = pytest.importorskip("hypothesis.stateful")
        from hypothesis import settings

        few = settings(max_examples=self.examples, stateful_step_count=20, deadline=None, database=None)
        stateful.run_state_machine_as_test(_histories(self), settings=few)


def _histories(contract: CacheContract) -> Any:
    """A Hypothesis state machine that does the same with a cache and with a plain dict."""
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, rule

    puts = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 200), st.integers(0, 999)), max_size=4)

    class History(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.cache = contract.make_cache()
            self.held: dict[int, Entry] = {}

        @rule(puts=puts)
        def put(self, puts: list[tuple[int, int, int]]) -> None:
            entries = [Entry(make_key(i), make_vector(seed, width), tokens=seed) for i, width, seed in puts]
            self.cache.set_many(entries)
            for (i, width, _), entry in zip(puts, entries, strict=True):
                if i not in self.held or len(self.held[i].vector) < width:
                    self.held[i] = entry

        @rule(asked=st.lists(st.integers(0, 6), unique=True), width=st.integers(1, 200))
        def find(self, asked: list[int], width: int) -> None:
            found, rows = get(self.cache, asked, width)
            there = [self.held.get(i) for i in asked]
            there = [entry if entry and len(entry.vector) >= width else None for entry in there]
            assert found.mask.tolist() == [entry is not None for entry in there]
            assert found.tokens == sum(entry.tokens for entry in there if entry)
            for row, entry in zip(rows, there, strict=True):
                if entry:
                    np.testing.assert_array_equal(row, contract.read_back(entry.vector)[:width])

        @rule()
        def look_at_all(self) -> None:
            widths = {entry.key: len(entry.vector) for entry in self.cache.items()}
            assert widths == {entry.key: len(entry.vector) for entry in self.held.values()}
            assert self.cache.stats().entries == self.cache.verify()[0] == len(widths)

        @rule()
        def clear(self) -> None:
            assert self.cache.clear() == len(self.held)
            self.held = {}

        @rule()
        def reopen(self) -> None:
            self.cache = contract.reopen(self.cache) or self.cache

        def teardown(self) -> None:
            self.cache.close()

    return History


def make_key(i: int) -> bytes:
    """The key of an example."""
    return hashlib.blake2b(str(i).encode(), digest_size=32).digest()


def make_vector(i: int, width: int) -> NDArray[np.float32]:
    """The vector of an example: a narrower one is the prefix of a wider one."""
    return np.random.default_rng(i).standard_normal(width).astype(np.float32)


def make_entry(i: int, width: int, **more: Any) -> Entry:
    """An example to store."""
    return Entry(make_key(i), make_vector(i, width), **more)


def get(cache: Cache, examples: Sequence[int], width: int) -> tuple[Found, NDArray[np.float32]]:
    """What a cache finds of some examples, and the rows, which are NaN where nothing was written."""
    out = np.full((len(examples), width), np.nan, dtype=np.float32)
    found = cache.get_many([make_key(i) for i in examples], width, out)
    assert found.mask.dtype == np.bool_
    assert found.mask.shape == (len(examples),)
    return found, out
