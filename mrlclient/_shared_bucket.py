"""One limit for many processes and machines, kept on a Redis or Valkey server."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from typing import Any

from mrlclient._warn import warn_user
from mrlclient.errors import LimiterWarning

try:
    from valkey.exceptions import NoScriptError
except ImportError:
    from mrlclient.errors import missing_extra

    raise missing_extra("valkey, which a shared limit needs,", "redis") from None

from mrlclient._valkey import open_client

_PREFIX = b"mrlclient:limit:"
_TIMEOUT = 1.0  # seconds to wait for the server
_REST = 30.0  # seconds that the server is left alone after a failure

# `Meter.reserve` of `mrlclient.pacing`, on the server and by its clock. ARGV: tokens to take; requests and tokens that
# are given back; the limits a minute, 0 for unknown: then what somebody else knew counts. The answer is the seconds to
# wait. Numbers are stored with 17 digits, for Lua by itself writes 14, which is a tenth of a millisecond of a date.
_RESERVE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local held = redis.call('HMGET', KEYS[1], 'at', 'requests', 'requests_limit', 'tokens', 'tokens_limit')
local from = tonumber(held[1]) or now
local at = math.max(now, from)
local ready, life = at, 60
local buckets = {
  {name = 'requests', take = 1, back = ARGV[2], limit = ARGV[4], level = held[2], known = held[3]},
  {name = 'tokens', take = ARGV[1], back = ARGV[3], limit = ARGV[5], level = held[4], known = held[5]},
}
for _, bucket in ipairs(buckets) do
  local limit, known, level = tonumber(bucket.limit), tonumber(bucket.known) or 0, tonumber(bucket.level)
  if limit == 0 then limit = known end
  if limit > 0 then
    if not level or known == 0 then
      level = limit
    else
      level = level + bucket.back + (at - from) * known / 60
      level = math.min(limit, level + math.max(0, limit - known))
    end
    ready = math.max(ready, at + math.max(0, math.min(bucket.take, limit) - level) * 60 / limit)
  end
  bucket.limit, bucket.level = limit, level
end
local fields = {'at', string.format('%.17g', ready)}
for _, bucket in ipairs(buckets) do
  if bucket.limit > 0 then
    local level = math.min(bucket.limit, bucket.level + (ready - at) * bucket.limit / 60) - bucket.take
    life = math.max(life, (bucket.limit - level) * 60 / bucket.limit)
    fields[#fields + 1] = bucket.name
    fields[#fields + 1] = string.format('%.17g', level)
    fields[#fields + 1] = bucket.name .. '_limit'
    fields[#fields + 1] = string.format('%.17g', bucket.limit)
  end
end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('EXPIRE', KEYS[1], math.ceil(ready - now + life) + 1)
return string.format('%.17g', ready - now)
"""
_RESERVE_SHA = hashlib.sha1(_RESERVE.encode(), usedforsecurity=False).hexdigest()  # how the server names it


class SharedBucket:
    """The limits of one account, for everybody who uses the server.

    The server's clock counts, and a script of a single step takes requests and tokens together. Where the server
    cannot be had, every process keeps to the limits by itself, and one warning says so. An entry goes as soon as it
    is full again.

    Args:
        url: Where the server is.
        account: Who pays. Only a hash of it is sent.

    Raises:
        ConfigurationError: If the address cannot be used.
    """

    def __init__(self, url: str, account: tuple[str, ...]) -> None:
        self._client = open_client(url, _TIMEOUT)
        hashed = hashlib.blake2b(digest_size=32, person=b"mrlclient limit1")
        for part in account:
            encoded = part.encode("utf-8")
            hashed.update(len(encoded).to_bytes(8, "little"))
            hashed.update(encoded)
        self._name = _PREFIX + hashed.hexdigest().encode("ascii")
        self._warned = False
        self.renew()

    def renew(self) -> None:
        """Begins anew, in a forked child: what is to be given back is its parent's to give."""
        self._lock = threading.RLock()
        self._requests_back = self._tokens_back = 0.0
        self._rests_until = -math.inf

    def give_back(self, tokens: float, requests: float) -> None:
        """A reservation was not used, or not all of it. The server is told with the next one."""
        with self._lock:
            self._tokens_back += tokens
            self._requests_back += requests

    def reserve(self, tokens: float, requests_limit: float, tokens_limit: float) -> float:
        """Takes one request and its tokens.

        Args:
            tokens: How many.
            requests_limit: Requests a minute; infinity where that is unknown here.
            tokens_limit: Likewise tokens.

        Returns:
            Seconds to wait before it may be sent; 0.0 where the server cannot be had.
        """
        if time.monotonic() < self._rests_until:
            return 0.0
        with self._lock:
            back = self._requests_back, self._tokens_back
            self._requests_back = self._tokens_back = 0.0
        limits = [0.0 if limit == math.inf else limit for limit in (requests_limit, tokens_limit)]
        try:
            return float(self._run(tokens, *back, *limits))
        except Exception as error:
            self._failed(error)
            return 0.0

    def _run(self, *arguments: float) -> Any:
        try:
            return self._client.evalsha(_RESERVE_SHA, 1, self._name, *arguments)
        except NoScriptError:
            return self._client.eval(_RESERVE, 1, self._name, *arguments)

    def _failed(self, error: Exception) -> None:
        self._rests_until = time.monotonic() + _REST
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            # The error's own words may hold the server's address, but no key: the client never saw one.
            warn_user(
                f"The server of the shared limit failed and is left out for {_REST:g} s ({type(error).__name__}: "
                f"{error}). Until then this process keeps to the limits by itself.",
                LimiterWarning,
            )
