"""The cache on a server: races, losses, damage, passwords, and who shares what."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import valkey

from mrlclient.cache import RedisCache, open_cache
from mrlclient.errors import ConfigurationError
from mrlclient.testing.cache_contract import get, make_entry, make_key, make_vector

SECRET = "hunter2+canary"

#: Another machine: writes random widths of ten keys, two hundred times.
WRITER = """
import sys
import numpy as np
from mrlclient.cache import RedisCache
from mrlclient.testing.cache_contract import make_entry

url, prefix, seed = sys.argv[1:]
random = np.random.default_rng(int(seed))
cache = RedisCache(url, prefix=prefix)
print(cache.secret.hex(), flush=True)
for _ in range(200):
    cache.set_many([make_entry(i, int(random.integers(1, 129))) for i in range(10)])
cache.set_many([make_entry(i, 129 if i % 2 == int(seed) else 100) for i in range(10)])
"""

#: A fork of a process that has used the cache: both go on, at the same time.
FORK = """
import os, sys
import numpy as np
from mrlclient.cache import RedisCache
from mrlclient.testing.cache_contract import get, make_entry, make_vector

cache = RedisCache(sys.argv[1], prefix=sys.argv[2])
cache.set_many([make_entry(i, 64) for i in range(50)])
get(cache, [0, 1, 2], 64)
child = os.fork()
for turn in range(100):
    i = turn % 50
    found, rows = get(cache, [i, 99], 64)
    assert found.mask.tolist() == [True, False]
    assert np.array_equal(rows[0], make_vector(i, 64))
cache.close()
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.fixture
def cache(url, prefix):
    cache = RedisCache(url, prefix=prefix)
    yield cache
    cache.close()


@pytest.fixture
def raw(server):
    """The server itself, as another client sees it."""
    with server.client() as client:
        yield client


def test_one_secret_for_all_who_share(url, prefix, raw):
    machines = [RedisCache(url, prefix=prefix) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda cache: cache.secret, machines))
    assert found == {raw.get(f"{prefix}secret")}
    machines[0].set_many([make_entry(1, 64)])
    assert get(machines[1], [1], 64)[0].mask.all()
    machines[0].clear()
    assert RedisCache(url, prefix=prefix).secret in found
    for machine in machines:
        machine.close()


def test_a_given_secret_stays_here(url, prefix, raw):
    cache = RedisCache(url, prefix=prefix, secret=b"s" * 32)
    cache.set_many([make_entry(1, 64)])
    get(cache, [1], 64)
    cache.close()
    assert cache.secret == b"s" * 32
    assert not raw.exists(f"{prefix}secret")
    for wrong in (b"short", b"l" * 65):
        with pytest.raises(ConfigurationError, match="16 to 64"):
            RedisCache(url, secret=wrong)


def test_an_evicted_secret_is_put_back(cache, prefix, raw):
    secret = cache.secret
    raw.delete(f"{prefix}secret")
    get(cache, [1], 64)
    cache.stats()
    assert raw.get(f"{prefix}secret") == secret


def test_those_who_were_there_before_a_secret_was_lost_share_again(url, prefix, raw):
    """A server that evicts may drop it, and whoever comes next makes another."""
    before = RedisCache(url, prefix=prefix)
    lost = before.secret
    raw.delete(f"{prefix}secret")
    after = RedisCache(url, prefix=prefix)
    assert after.secret != lost
    get(before, [1], 64)
    before.stats()
    assert before.secret == after.secret
    for cache in (before, after):
        cache.close()


def test_two_processes_race_and_the_widest_stays(cache, url, prefix):
    command = [sys.executable, "-c", WRITER, url, prefix]
    writers = [subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True) for seed in range(2)]
    widest = np.zeros(10, dtype=int)
    while any(writer.poll() is None for writer in writers):
        for width in (32, 64, 100, 120):
            found, rows = get(cache, range(10), width)
            assert not (~found.mask & (widest >= width)).any(), "a vector became narrower"
            widest[found.mask] = np.maximum(widest[found.mask], width)
            for i in np.flatnonzero(found.mask):
                np.testing.assert_array_equal(rows[i], make_vector(int(i), width))
    assert [writer.wait() for writer in writers] == [0, 0]
    assert {writer.communicate()[0].strip() for writer in writers} == {cache.secret.hex()}
    assert get(cache, range(10), 129)[0].mask.all()
    assert cache.verify() == (10, 0)


def test_fork(url, prefix):
    done = subprocess.run([sys.executable, "-c", FORK, url, prefix], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    stats = RedisCache(url, prefix=prefix).stats()
    assert (stats.hits, stats.misses) == (3 + 100 + 100, 100 + 100)  # the three from before the fork count once


def test_a_server_that_goes_and_comes_back(start_server, prefix):
    server = start_server()
    cache = RedisCache(f"unix://{server.unix_socket_path}", prefix=prefix)
    cache.set_many([make_entry(1, 64)])
    assert get(cache, [1], 64)[0].mask.all()
    server.stop()
    started = time.monotonic()
    for call in (lambda: get(cache, [1], 64), lambda: cache.set_many([make_entry(1, 64)]), cache.stats, cache.clear):
        with pytest.raises(valkey.ValkeyError):
            call()
    assert time.monotonic() - started < 5
    server.start()
    assert not get(cache, [1], 64)[0].mask.any()
    cache.set_many([make_entry(1, 64)])  # the server has lost the script, too
    assert get(cache, [1], 64)[0].mask.all()
    server.stop()
    cache.close()


def test_a_server_that_does_not_answer(url, prefix, raw):
    cache = RedisCache(url, prefix=prefix, timeout=0.1)
    get(cache, [1], 64)
    raw.client_pause(1_000)  # which holds up the unpause, too
    started = time.monotonic()
    with pytest.raises(valkey.TimeoutError):
        cache.set_many([make_entry(1, 64)])
    assert time.monotonic() - started < 0.9
    raw.client_unpause()
    cache.set_many([make_entry(1, 64)])
    assert get(cache, [1], 64)[0].mask.all()
    cache.close()


@pytest.mark.parametrize("at", [0, 5, 8, 20, 100, -1])
def test_what_is_damaged_is_a_miss_and_goes(cache, prefix, raw, at):
    cache.set_many([make_entry(1, 70), make_entry(2, 70)])
    name = prefix.encode() + make_key(1)
    stored = bytearray(raw.get(name))
    stored[at] ^= 0x40
    raw.set(name, bytes(stored))
    assert get(cache, [1, 2], 70)[0].mask.tolist() == [False, True]
    assert not raw.exists(name)
    cache.set_many([make_entry(1, 64)])
    assert get(cache, [1], 64)[0].mask.all()


def test_verify_and_items_leave_the_damaged_out(cache, prefix, raw):
    cache.set_many([make_entry(i, 300) for i in range(5)])
    raw.setrange(prefix.encode() + make_key(3), 1000, b"damage")
    raw.append(prefix.encode() + make_key(4), b"more")
    assert {entry.key for entry in cache.items()} == {make_key(i) for i in range(3)}
    assert cache.verify() == (3, 2)
    assert cache.verify() == (3, 0)


def test_prefixes_are_islands(url, prefix, raw):
    names = [prefix, f"{prefix}*", f"{prefix}?", f"{prefix}[a]", f"{prefix}a", f"{prefix}\\", f"{prefix}ż:"]
    caches = [RedisCache(url, prefix=name) for name in names]
    for i, cache in enumerate(caches):
        assert cache.secret
        cache.set_many([make_entry(10 * i + j, 64) for j in range(3)])
    raw.set(f"{prefix}somebody else's", "thing")
    for i, cache in enumerate(caches):
        assert {entry.key for entry in cache.items()} == {make_key(10 * i + j) for j in range(3)}
        assert cache.clear() == 3
        assert [other.stats().entries for other in caches] == [0] * (i + 1) + [3] * (len(caches) - i - 1)
    assert raw.get(f"{prefix}somebody else's") == b"thing"
    for cache in caches:
        cache.close()


def test_the_server_drops_what_is_too_old(url, prefix, raw):
    cache = RedisCache(url, prefix=prefix, ttl=60)
    cache.set_many([make_entry(1, 64, created=time.time() - 50)])
    assert 5000 < raw.pttl(prefix.encode() + make_key(1)) <= 10_000
    forever = RedisCache(url, prefix=prefix)
    forever.set_many([make_entry(2, 128, created=time.time() - 100)])
    assert get(forever, [1, 2], 64)[0].mask.tolist() == [True, True]
    assert get(cache, [1, 2], 64)[0].mask.tolist() == [True, False]
    cache.set_many([make_entry(2, 64)])  # narrower, but what is held is too old for this cache
    assert get(cache, [2], 64)[0].mask.all()
    forever.set_many([make_entry(3, 128, created=time.time() - 100)])
    assert (cache.prune(), forever.prune(), cache.stats().entries) == (1, 0, 2)
    cache.close()
    forever.close()


def test_only_the_prefix_travels(cache, raw):
    cache.set_many([make_entry(i, 3072) for i in range(20)])
    before = raw.info("stats")["total_net_output_bytes"]
    get(cache, range(20), 64)
    assert raw.info("stats")["total_net_output_bytes"] - before < 20 * 3072


def test_what_it_says_of_its_size(cache):
    cache.set_many([make_entry(i, 256 if i % 2 else 768) for i in range(1000)])
    stats = cache.stats()
    assert stats.entries == 1000
    assert stats.bytes == pytest.approx(1000 * 512 * 4, rel=0.4)


def test_counts_are_everybodys(url, prefix):
    first, second = RedisCache(url, prefix=prefix), RedisCache(url, prefix=prefix)
    first.set_many([make_entry(1, 64, tokens=2)])
    for cache in (first, second, second):
        get(cache, [1, 2], 64)
    second.close()
    stats = first.stats()
    assert (stats.hits, stats.misses, stats.tokens_saved) == (3, 3, 6)
    first.close()


def test_who_may_only_read_finds(cache, url, prefix, raw, monkeypatch):
    monkeypatch.setattr("mrlclient.cache.redis._REPORT_EVERY", 0)
    secret = cache.secret
    cache.set_many([make_entry(1, 64)])
    raw.acl_setuser("reader", enabled=True, reset=True, passwords=["+pw"], categories=["+@read"], keys=["*"])
    reader = RedisCache(url.replace("unix://", "unix://reader:pw@"), prefix=prefix)
    assert reader.secret == secret
    assert get(reader, [1], 64)[0].mask.all()
    with pytest.raises(valkey.exceptions.NoPermissionError) as caught:
        reader.set_many([make_entry(2, 64)])
    assert len(str(caught.value)) < 200  # and not the vector
    reader.close()


def test_passwords_do_not_show(raw, url):
    raw.acl_setuser("alice", enabled=True, reset=True, passwords=["+right"], categories=["+@all"], keys=["*"])
    cache = RedisCache(url.replace("unix://", f"unix://alice:{SECRET}@"))
    with pytest.raises(valkey.AuthenticationError) as caught:
        get(cache, [1], 64)
    shown = f"{caught.value!r} {cache!r} {vars(cache)!r}"
    assert SECRET not in shown
    assert "alice" not in repr(cache)
    cache.close()


@pytest.mark.parametrize(
    "wrong",
    [
        f"redis://:{SECRET}@host:port/0",
        f"redis://:{SECRET}/x@host",
        f"redis://:1234/{SECRET}@host",
        f"redis://:12?{SECRET}@host",
        f"redis://:12#{SECRET}@host",
        f"redis://host?passwrd={SECRET}",
        f"http://:{SECRET}@host",
        SECRET,
        "",
    ],
)
def test_wrong_addresses_do_not_show(wrong):
    with pytest.raises(ConfigurationError) as caught:
        RedisCache(wrong)
    error = caught.value
    assert SECRET not in f"{error} {error.__cause__} {error.__context__}"
    assert "unix:///path" in str(error)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_addresses(scheme):
    cache = open_cache(f"{scheme}://me:p%2Fw@example.org:7000/2?decode_responses=1")
    pool = cache._client.connection_pool
    expected = {"username": "me", "password": "p/w", "host": "example.org", "port": 7000, "db": 2}
    expected |= {"socket_timeout": 2.0, "socket_connect_timeout": 2.0, "decode_responses": False}
    if scheme in ("rediss", "valkeys"):
        expected["ssl_check_hostname"] = True
        assert pool.connection_class is valkey.SSLConnection
    assert pool.connection_kwargs == expected
    cache.close()


def test_it_is_not_pickled():
    with pytest.raises(TypeError, match="Make one in each process") as caught:
        pickle.dumps(RedisCache(f"redis://:{SECRET}@localhost"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"prefix": ""}, {"ttl": 0}, {"timeout": 0}, {"stored_type": "int8"}])
def test_wrong_arguments(url, wrong):
    with pytest.raises(ConfigurationError):
        RedisCache(url, **wrong)


def test_missing_package():
    code = (
        "import sys; sys.modules['valkey'] = None\nfrom mrlclient.cache import open_cache\nopen_cache('redis://host')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'mrlclient[redis]'")
    assert "MissingExtraError" in done.stderr
