"""A cache on a Redis or Valkey server, shared by processes and machines."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mrlclient._frames import discreet
from mrlclient.cache.base import Cache, CacheStats, CorruptEntryError, Entry, Found, check_options, is_positive
from mrlclient.errors import ConfigurationError

try:
    import valkey

    from mrlclient.cache import codec
except ImportError:
    from mrlclient.errors import missing_extra

    raise missing_extra("valkey or xxhash, which a cache on a server needs,", "redis") from None

from mrlclient._valkey import open_client

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRIP_BYTES = 8 * 2**20  # of values in one round trip, about
_PAGE = 500  # names in one step of a scan
_SAMPLE = 100  # entries whose size `stats` looks at
_REPORT_EVERY = 1.0  # seconds between two reports of hits and misses to the server
_COUNTS = (b"hits", b"misses", b"tokens", b"usd")

# Keeps a value unless one is held that is at least as wide and not too old (ARGV: value, lifetime in ms or 0, oldest
# time of creation). Width, tokens, usd and created stand at byte 9, counted from 1, of every value: see `codec`. What
# is held does not count unless it begins with the same magic and version.
_KEEP = """
local held = redis.call('GETRANGE', KEYS[1], 0, 31)
if #held == 32 and string.sub(held, 1, 5) == string.sub(ARGV[1], 1, 5) then
  local width, _, _, created = struct.unpack('<I4fdd', held, 9)
  if width >= struct.unpack('<I4', ARGV[1], 9) and created >= tonumber(ARGV[3]) then return 0 end
end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1
"""
_KEEP_SHA = hashlib.sha1(_KEEP.encode(), usedforsecurity=False).hexdigest()  # how the server names it


class RedisCache(Cache):
    """Vectors on a Redis or Valkey server; a narrow request fetches only a prefix.

    The size is limited by the server: set `maxmemory`, and `maxmemory-policy allkeys-lru` so that it drops what was not
    used for longest. Only names that begin with `prefix` are touched. Clusters are not supported.

    Args:
        url: `redis://`, `rediss://`, `valkey://` or `valkeys://` (the second and the last with TLS), or `unix:///path`;
            with `user:password@` if the server asks for them. Escape special characters (`%2F`).
        secret: 16 to 64 bytes to make keys with. By default they are stored on the server, made by the first client.
        prefix: What every name on the server begins with. Caches with different prefixes do not see each other.
        ttl: Seconds after which the server drops an entry; by default without limit.
        stored_type: `"float16"` takes half the memory and keeps 11 bits of each number.
        timeout: Seconds to wait for the server, each time.

    Raises:
        ConfigurationError: If an argument is wrong. The message does not show the address, which may hold a password.
    """

    @discreet
    def __init__(
        self,
        url: str,
        *,
        secret: bytes | None = None,
        prefix: str = "mrlclient:",
        ttl: float | None = None,
        stored_type: codec.StoredType = "float32",
        timeout: float = 2.0,
    ) -> None:
        check_options(ttl=ttl, stored_type=stored_type)
        if not is_positive(timeout):
            raise ConfigurationError(f"timeout of a cache must be a positive number of seconds, not {timeout!r}.")
        if not (isinstance(prefix, str) and prefix):
            raise ConfigurationError(f"prefix of a cache must be what names begin with, not {prefix!r}.")
        self._prefix = prefix.encode("utf-8")
        self._ttl = ttl
        self._stored_type: codec.StoredType = stored_type
        self._shares_secret = secret is None
        self._secret = None if secret is None else _checked(secret)
        # What was found and the server was not told of yet, with the process that found it. Appending needs no lock,
        # which a fork could catch in the wrong state.
        self._seen: deque[tuple[int, NDArray[np.float64]]] = deque()
        self._reported = time.monotonic()
        self._client = open_client(url, timeout)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A RedisCache is not pickled: its address may hold a password. Make one in each process; those with the "
            "same server and prefix share what they keep."
        )

    def __repr__(self) -> str:
        return f"RedisCache(prefix={self._prefix.decode('utf-8')!r})"

    @property
    def secret(self) -> bytes:
        if self._secret is None:
            kept = self._client.get(self._prefix + b"secret")
            self._secret = self._agreed(secrets.token_bytes(32)) if kept is None else _checked(kept)
        return self._secret

    def _agreed(self, secret: bytes) -> bytes:
        """Puts a secret on the server unless there is one. Of two that come at once, both get the same."""
        name = self._prefix + b"secret"
        return _checked(self._trip([("SET", name, secret, "NX"), ("GET", name)])[1])

    def get_many(self, keys: Sequence[bytes], width: int, out: NDArray[np.float32]) -> Found:
        mask = np.zeros(len(keys), dtype=np.bool_)
        tokens = usd = 0.0
        oldest, size, damaged = self._oldest(), codec.prefix_size(width), list[bytes]()
        step = max(1, _TRIP_BYTES // size)
        for start in range(0, len(keys), step):
            names = [self._prefix + key for key in keys[start : start + step]]
            # A name that is not there reads as an empty string.
            values = self._trip(("GETRANGE", name, 0, size - 1) for name in names)
            part = slice(start, start + len(names))
            found = codec.decode_bytes(keys[part], values, out[part], not_before=oldest)
            mask[part] = found.good
            tokens += found.tokens
            usd += found.usd
            damaged += [name for name, bad in zip(names, found.damaged.tolist(), strict=True) if bad]
        hits = int(mask.sum())
        self._seen.append((os.getpid(), np.array([hits, len(keys) - hits, tokens, usd])))
        # What was found is found, even where this user of the server may only read.
        with suppress(valkey.ValkeyError):
            self._drop(damaged)
            if time.monotonic() - self._reported >= _REPORT_EVERY:
                self._report()
        return Found(mask, tokens, usd)

    def set_many(self, entries: Sequence[Entry]) -> None:
        now, oldest = time.time(), self._oldest()
        commands: list[tuple[Any, ...]] = []
        size = 0
        kept = [(entry, life) for entry in entries if (life := self._life(entry, now)) >= 0]
        values = codec.Encoder().encode([entry for entry, _ in kept], self._stored_type, now)
        for (entry, life), value in zip(kept, values, strict=True):
            # The first of a trip brings the script along, so the others find it.
            script = ("EVALSHA", _KEEP_SHA) if commands else ("EVAL", _KEEP)
            commands.append((*script, 1, self._prefix + entry.key, bytes(value), life, oldest))
            size += len(value)
            if size >= _TRIP_BYTES:
                self._trip(commands)
                commands, size = [], 0
        self._trip(commands)

    def items(self) -> Iterator[Entry]:
        oldest = self._oldest()
        for name, value in self._values():
            with suppress(CorruptEntryError):
                entry = codec.decode(name[len(self._prefix) :], value)
                if entry.created >= oldest:
                    yield entry

    def stats(self) -> CacheStats:
        """Returns what is held, and what it has saved for everybody who shares the prefix.

        The server holds other data too, so entries are counted by walking over its names, and their size is estimated
        from a sample: approximate while others write. What other processes found in the last second, or never reported
        because they were killed, is not included.
        """
        self._report()
        entries, sample = 0, list[bytes]()
        for names in self._pages():
            entries += len(names)
            sample += names[: _SAMPLE - len(sample)]
        sizes = [size for size in self._trip(("MEMORY USAGE", name) for name in sample) if size]
        total = round(entries * sum(sizes) / len(sizes)) if sizes else 0
        hits, misses, tokens, usd = (float(n or 0) for n in self._client.hmget(self._prefix + b"stats", *_COUNTS))
        return CacheStats(entries, total, int(hits), int(misses), tokens, usd)

    def prune(self) -> int:
        """Drops what is too old for this cache's `ttl`, as after changing it. The server drops the rest itself."""
        if self._ttl is None:
            return 0
        dropped, oldest, last = 0, self._oldest(), codec.prefix_size(1) - 1
        for names in self._pages():
            values = self._trip(("GETRANGE", name, 0, last) for name in names)
            keys, one = [name[len(self._prefix) :] for name in names], np.empty((len(names), 1), dtype=np.float32)
            found = codec.decode_bytes(keys, values, one, not_before=oldest)
            old = [bool(value) for value in values] & ~(found.good | found.damaged)
            dropped += self._drop([name for name, yes in zip(names, old.tolist(), strict=True) if yes])
        return dropped

    def clear(self) -> int:
        """Drops every entry. The secret and the counts stay, so that those who share them can go on."""
        return sum(self._drop(names) for names in self._pages())

    def verify(self) -> tuple[int, int]:
        good, damaged = 0, []
        for name, value in self._values():
            try:
                codec.decode(name[len(self._prefix) :], value)
                good += 1
            except CorruptEntryError:
                damaged.append(name)
        return good, self._drop(damaged)

    def close(self) -> None:
        with suppress(valkey.ValkeyError):
            self._report()
        self._client.close()

    def _life(self, entry: Entry, now: float) -> int:
        """Milliseconds that an entry has left: 0 for ever, -1 for none."""
        return 0 if self._ttl is None else int(((entry.created or now) + self._ttl - now) * 1000) or -1

    def _oldest(self) -> float:
        return 0.0 if self._ttl is None else time.time() - self._ttl

    def _trip(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Sends commands together and returns their answers, or raises the first error among them."""
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        # Raised here: the package's own message would show the command, vectors and all.
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _pages(self) -> Iterator[list[bytes]]:
        """The names of all entries. The server may give one twice while its table shrinks."""
        pattern = re.sub(rb"([\\*?\[\]])", rb"\\\1", self._prefix) + b"?" * 32
        cursor = 0
        while True:
            cursor, names = self._client.scan(cursor, match=pattern, count=_PAGE)
            if names:
                yield names
            if not cursor:
                return

    def _values(self) -> Iterator[tuple[bytes, bytes]]:
        for names in self._pages():
            for name, value in zip(names, self._client.mget(names), strict=True):
                if value is not None:
                    yield name, value

    def _drop(self, names: list[bytes]) -> int:
        return int(self._client.unlink(*names)) if names else 0

    def _report(self) -> None:
        """Adds what was found here to the server's counts."""
        self._reported, counts = time.monotonic(), np.zeros(len(_COUNTS))
        with suppress(IndexError):
            while True:
                process, seen = self._seen.popleft()
                if process == os.getpid():  # a forked child leaves its parent's to the parent
                    counts += seen
        if counts.any():
            name = self._prefix + b"stats"
            news = zip(_COUNTS, counts.tolist(), strict=True)
            self._trip(("HINCRBYFLOAT", name, *new) for new in news)
            if self._shares_secret and self._secret is not None:
                # Keeps it from looking unused to a server that evicts; where it was lost, all take the first one again.
                self._secret = self._agreed(self._secret)


def _checked(secret: bytes) -> bytes:
    if not (isinstance(secret, bytes) and 16 <= len(secret) <= 64):
        raise ConfigurationError("The secret of a cache must have 16 to 64 bytes.")
    return secret
