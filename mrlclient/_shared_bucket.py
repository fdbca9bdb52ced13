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

# `Meter` of `mrlclient.pacing`, on the server and by its clock. ARGV: tokens to take; tokens taken and not used; the
# limits a minute, 0 for unknown: then what somebody else knew counts; the tokens of each reservation given back. The
# answer is the seconds to wait. Numbers are stored with 17 digits, for Lua by itself writes 14, which is a tenth of a
# millisecond of a date.
_RESERVE = """
local function exact(number) return string.format('%.17g', number) end
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local held = redis.call('HMGET', KEYS[1], 'at', 'promised')
local from, promised, buckets = tonumber(held[1]) or now, {}, {}
for at, tokens in string.gmatch(held[2] or '', '(%S+) (%S+)') do
  promised[#promised + 1] = {at = tonumber(at), tokens = tonumber(tokens)}
end
for place, name in ipairs({'requests', 'tokens'}) do
  local known = redis.call('HMGET', KEYS[1], name, name .. '_limit', name .. '_top')
  local level, limit = tonumber(known[1]), tonumber(known[2]) or 0
  buckets[place] = {name = name, at = from, level = level, limit = limit, top = tonumber(known[3]) or limit}
end
local function add(bucket, amount)
  if bucket.limit > 0 then bucket.level = math.min(bucket.limit, bucket.level + amount) end
end
local function take(from_these, at, tokens)
  for place, bucket in ipairs(from_these) do
    add(bucket, (at - bucket.at) * bucket.limit / 60)
    if bucket.limit > 0 then bucket.level = bucket.level - (place == 1 and 1 or tokens) end
    bucket.at = at
  end
end
for place = 5, #ARGV do
  local tokens, among = tonumber(ARGV[place]), nil
  for i, waiting in ipairs(promised) do
    if waiting.tokens == tokens then among = i end
  end
  if among then
    table.remove(promised, among)
  else
    add(buckets[1], 1)
    add(buckets[2], tokens)
  end
end
add(buckets[2], tonumber(ARGV[2]))
local at, tokens, after = math.max(now, from), tonumber(ARGV[1]), {}
while promised[1] and promised[1].at <= at do
  take(buckets, promised[1].at, promised[1].tokens)
  table.remove(promised, 1)
end
for place, bucket in ipairs(buckets) do
  add(bucket, (at - bucket.at) * bucket.limit / 60)
  local limit = tonumber(ARGV[2 + place])
  if limit > 0 then
    if bucket.limit == 0 then
      bucket.level = limit
    else
      bucket.level = math.min(limit, bucket.level + math.max(0, limit - bucket.top))
    end
    bucket.limit, bucket.top = limit, math.max(limit, bucket.top)
  end
  bucket.at = at
  after[place] = {at = at, level = bucket.level, limit = bucket.limit}
end
local last, life = at, 60
for _, waiting in ipairs(promised) do
  last = waiting.at
  take(after, last, waiting.tokens)
end
local ready = last
for place, bucket in ipairs(after) do
  if bucket.limit > 0 then
    add(bucket, (last - bucket.at) * bucket.limit / 60)
    bucket.at = last
    local amount = math.min(place == 1 and 1 or tokens, bucket.limit)
    ready = math.max(ready, last + math.max(0, amount - bucket.level) * 60 / bucket.limit)
  end
end
take(after, ready, tokens)
if ready <= at then
  take(buckets, ready, tokens)
else
  promised[#promised + 1] = {at = ready, tokens = tokens}
end
local waiting, fields = {}, {'at', exact(at)}
for i, each in ipairs(promised) do waiting[i] = exact(each.at) .. ' ' .. exact(each.tokens) end
fields[3], fields[4] = 'promised', table.concat(waiting, ' ')
for place, bucket in ipairs(buckets) do
  if bucket.limit > 0 then
    life = math.max(life, (bucket.limit - after[place].level) * 60 / bucket.limit)
    for ending, number in pairs({[''] = bucket.level, _limit = bucket.limit, _top = bucket.top}) do
      fields[#fields + 1] = bucket.name .. ending
      fields[#fields + 1] = exact(number)
    end
  end
end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('EXPIRE', KEYS[1], math.ceil(ready - now + life) + 1)
return exact(ready - now)
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
        self._unused = 0.0
        self._given_back: list[float] = []
        self._rests_until = -math.inf

    def give_back(self, tokens: float) -> None:
        """A reservation was not used. The server is told with the next one."""
        with self._lock:
            self._given_back.append(tokens)

    def settle(self, reserved: float, used: float) -> None:
        """A request took another number of tokens than were reserved for it. The server is told with the next one."""
        with self._lock:
            self._unused += reserved - used

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
            unused, given_back = self._unused, self._given_back
            self._unused, self._given_back = 0.0, []
        limits = [0.0 if limit == math.inf else limit for limit in (requests_limit, tokens_limit)]
        try:
            return float(self._run(tokens, unused, *limits, *given_back))
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
