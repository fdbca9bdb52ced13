"""How fast, and how much at once: state machines without a clock, a lock or a network.

Times are seconds on any clock that never runs backwards, and come in as `now`. `mrlclient.gates` has the clock and the
lock.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass
from typing import Literal

from mrlclient.limits import Quota, Window

#: How a request ended: `"limited"` where the server had too much to do (429, 503, 529), `"failed"` in any other way.
Ending = Literal["ok", "limited", "failed"]

_MINUTE = 60.0
#: Seconds that a server can make everybody wait at most.
_LONGEST_PAUSE = 60.0
#: How far a server's own reckoning of a reset may be from ours.
_TOLERANCE = 0.1
#: What a retry budget holds, and what each first attempt puts in.
_BUDGET, _DEPOSIT = 100.0, 0.5


class Bucket:
    """A token bucket: it holds a minute's worth, fills evenly, and is taken from in the order of asking.

    An amount above the capacity goes when the bucket is full, and leaves a debt.

    Args:
        per_minute: The limit. None: unknown, so there is none until the server names one. `math.inf`: none, ever.

    Attributes:
        limit: The limit in force, a minute.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self._heeds_server = per_minute != math.inf
        self._most = math.inf if per_minute is None else per_minute
        self.limit = self._most
        # Who names now this limit and now that gives what it is raised by once, not each time.
        self._top = self.limit
        self._level = self.limit
        self._at = -math.inf

    def ready_at(self, now: float, amount: float) -> float:
        """When the amount would be covered, and everybody who asked before served."""
        if self.limit == math.inf:
            return now
        at = max(now, self._at)
        missing = min(amount, self.limit) - self._level_at(at)
        return at + max(0.0, missing) * _MINUTE / self.limit

    def take(self, at: float, amount: float) -> None:
        """Takes the amount at a moment that `ready_at` said, or later."""
        if self.limit < math.inf:
            self._level, self._at = self._level_at(at) - amount, at

    def give_back(self, amount: float) -> None:
        """What was taken and not used is there again, for whoever asks from now on."""
        self._level = min(self.limit, self._level + amount)

    def bound(self, per_minute: float | None) -> None:
        """Somebody else has a say, too: the stricter limit counts."""
        if per_minute != math.inf:
            self._heeds_server = True
        if per_minute is not None:
            self._most = min(self._most, per_minute)
            self._change(min(self.limit, self._most))

    def observe(self, now: float, window: Window) -> float:
        """What the server says corrects what is believed here, but never beyond what was configured.

        Returns:
            Seconds for which nothing is left at all; 0 where that is not so.
        """
        if not self._heeds_server:
            return 0.0
        if self.limit < math.inf:
            self._level = self._level_at(now)
        if window.limit is not None:
            self._change(min(window.limit, self._most))
        if self.limit < math.inf:
            self._at = now
            if window.remaining is not None:
                self._level = min(self._level, window.remaining)
        if window.remaining is None:
            return 0.0
        if window.remaining > 0 or window.reset is None or self._is_evenly_filled(window):
            return 0.0
        return min(window.reset, _LONGEST_PAUSE)

    def _is_evenly_filled(self, window: Window) -> bool:
        """Whether the time until all is there again is what an empty bucket that fills evenly takes.

        Then something is there again long before, which our own bucket knows. Otherwise the server counts in fixed
        windows, and nothing is there before the next one.
        """
        limit = window.limit or self.limit
        if limit == math.inf or window.reset is None:
            return False
        # Servers round what remains down.
        soonest = _MINUTE * max(0.0, 1.0 - 1.0 / limit)
        return soonest * (1 - _TOLERANCE) <= window.reset <= _MINUTE * (1 + _TOLERANCE)

    def _change(self, limit: float) -> None:
        if self.limit == math.inf:
            self._level = self._top = limit
        elif limit > self._top:
            self._level += limit - self._top
            self._top = limit
        self._level = min(self._level, limit)
        self.limit = limit

    def _level_at(self, at: float) -> float:
        if self._level >= self.limit:
            return self.limit
        return min(self.limit, self._level + (at - self._at) * self.limit / _MINUTE)


class Meter:
    """The limits of one account: requests and tokens, taken together.

    Who reserves is told when both are covered. So nobody polls, and who comes later is never served before.

    Granted requests, and likewise granted tokens, are never more than limit x minutes + limit in any stretch of time,
    but for what was given back, and for a request that is larger than a whole minute's limit.

    Args:
        requests_per_minute: As of `Bucket`.
        tokens_per_minute: As of `Bucket`.
    """

    def __init__(self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        self.requests = Bucket(requests_per_minute)
        self.tokens = Bucket(tokens_per_minute)
        self._paused_until = -math.inf
        # When those may go who still wait, and their tokens: the buckets do not know of them yet.
        self._promised: deque[tuple[float, float]] = deque()

    def reserve(self, now: float, tokens: float) -> float:
        """Takes one request and its tokens. Returns the seconds to wait before it may be sent."""
        self._let_go(now)
        requests, held, last = self.requests, self.tokens, now
        if self._promised:
            requests, held = copy(requests), copy(held)
            for last, amount in self._promised:
                requests.take(last, 1)
                held.take(last, amount)
        # A later moment than one bucket asks for is good for it, too.
        at = max(requests.ready_at(max(last, self._paused_until), 1), held.ready_at(last, tokens))
        self._promised.append((at, tokens))
        self._let_go(now)
        return at - now

    def give_back(self, tokens: float) -> None:
        """A reservation is not used. Whoever asks from now on does not wait for it."""
        for place in reversed(range(len(self._promised))):
            if self._promised[place][1] == tokens:
                # If it is not the very one, it is as large.
                del self._promised[place]
                return
        self.requests.give_back(1)
        self.tokens.give_back(tokens)

    def settle(self, reserved: float, used: float) -> None:
        """A request took another number of tokens than were reserved for it."""
        self.tokens.give_back(reserved - used)

    def observe(self, now: float, quota: Quota) -> None:
        """The server's headers."""
        self._let_go(now)
        empty = max(self.requests.observe(now, quota.requests), self.tokens.observe(now, quota.tokens))
        if empty:
            self.pause(now, empty)

    def pause(self, now: float, seconds: float) -> None:
        """Nobody goes before it is over."""
        self._paused_until = max(self._paused_until, now + seconds)

    def paused(self, now: float) -> float:
        """Seconds that a pause still has; for those who had been told when to go before it began."""
        return max(0.0, self._paused_until - now)

    def _let_go(self, now: float) -> None:
        """Those whose moment has come are taken from the buckets."""
        while self._promised and self._promised[0][0] <= now:
            at, tokens = self._promised.popleft()
            self.requests.take(at, 1)
            self.tokens.take(at, tokens)


class Concurrency:
    """How many requests may be under way: additive increase, multiplicative decrease, as TCP does it (RFC 5681).

    Each success adds 1 / limit, so that a whole round of them adds about 1, while at least half of the limit is in use.
    Where the server was overloaded, the limit becomes half of what was under way. The others of the same round are no
    further evidence: they were sent before the limit fell.

    Args:
        ceiling: The limit to begin with, and never to exceed.

    Attributes:
        limit: Requests that may be under way; its whole part counts.
        in_flight: Requests that are.
    """

    def __init__(self, ceiling: int) -> None:
        self.limit = float(ceiling)
        self.in_flight = 0
        self._ceiling = ceiling
        self._started = 0
        self._first_of_round = 0

    @property
    def has_room(self) -> bool:
        """Whether one more may start."""
        return self.in_flight < int(self.limit)

    def start(self) -> int:
        """One more is under way. Returns its number."""
        self.in_flight += 1
        self._started += 1
        return self._started - 1

    def end(self, number: int, ending: Ending) -> None:
        """The request of that number has ended."""
        if ending == "ok" and 2 * self.in_flight >= int(self.limit):
            self.limit = min(self._ceiling, self.limit + 1 / self.limit)
        elif ending == "limited" and number >= self._first_of_round:
            self.limit = max(1.0, min(self.limit, self.in_flight) / 2)
            self._first_of_round = self._started
        self.in_flight -= 1

    def bound(self, ceiling: int) -> None:
        """Somebody else has a say, too: the stricter ceiling counts."""
        self._ceiling = min(self._ceiling, ceiling)
        self.limit = min(self.limit, self._ceiling)


@dataclass(eq=False, slots=True)
class Ticket:
    """A request's place among those that may be under way; only its gate writes to it.

    Attributes:
        ready: Done as soon as there is a place; None where there was one at once.
        line: What gave it its place; None while it waits, and after it left.
        number: Its number in that line.
    """

    ready: Future[None] | None = None
    line: Concurrency | None = None
    number: int = 0


class RetryBudget:
    """Retries are paid for by first attempts, so that an outage does not multiply the traffic that it makes worse.

    Each first attempt puts in half a retry, and what is in is bounded. So n first attempts bring n / 2 + 100 retries at
    most, however long an outage lasts; and where one request in five fails, retries go on for ever: they take a quarter
    of a retry for each first attempt. The idea is that of gRPC's retry throttling (proposal A6), of the retry quota in
    the AWS SDKs' standard mode, and, deposits included, of Finagle's `RetryBudget`.
    """

    def __init__(self) -> None:
        self._balance = _BUDGET

    def deposit(self) -> None:
        """A first attempt."""
        self._balance = min(_BUDGET, self._balance + _DEPOSIT)

    def withdraw(self) -> bool:
        """Pays for a retry. Returns whether there is to be one."""
        if self._balance < 1:
            return False
        self._balance -= 1
        return True
