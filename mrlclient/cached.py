"""Through the cache: what is there is taken, what somebody else is getting is waited for, the rest is sent and kept.

Pure, as the flow that it is part of.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from mrlclient.call import Cached, Call
from mrlclient.errors import InputError, MRLError, ResponseContractError
from mrlclient.events import log_found, log_kept
from mrlclient.keys import Entry, Look
from mrlclient.operations import Answer, CacheKeep, CacheLook, CacheStore, Flow, Join
from mrlclient.plan import Batch, Plan
from mrlclient.vectors import truncate_dimensions

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray


class Claim(Protocol):
    """What one call leads, and what it waits for; see `mrlclient.cache.flights`."""

    @property
    def led(self) -> Sequence[int]: ...
    @property
    def joined(self) -> Mapping[int, Future[NDArray[np.float32] | None]]: ...
    @property
    def since(self) -> Sequence[int]: ...
    def is_own(self, position: int) -> bool: ...
    def land(self, position: int, row: NDArray[np.float32]) -> None: ...
    def fail(self, position: int, error: Exception) -> None: ...
    def release(self) -> None: ...


class Flights(Protocol):
    """What is under way towards a cache; see `mrlclient.cache.flights`."""

    @property
    def landed(self) -> int: ...
    def claim(
        self,
        keys: Sequence[bytes],
        width: int,
        landed: int,
        owner: object,
        declined: Collection[object] = (),
        own_only: bool = False,
    ) -> Claim: ...


class First(NamedTuple):
    """A look that found nothing of what a call wants, and how many flights had landed before it."""

    landed: int
    look: Look


@dataclass(frozen=True, slots=True)
class Caching:
    """A cache, and what else than the text decides a vector.

    Attributes:
        store: The cache.
        flights: What is under way towards it.
        fields: Origin, model, revision, role, prompt, recipe.
        first: The first look, where it has been taken.
    """

    store: CacheStore
    flights: Flights
    fields: Sequence[str]
    first: First | None = None


_NONE = np.empty(0, dtype=np.intp)

Send = Callable[[Call, "NDArray[np.intp] | None"], Flow[None]]


def cache_fields(plan: Plan, identity: Sequence[str]) -> tuple[str, ...]:
    """Whatever decides a plan's vectors, except the texts and the width.

    Vectors that a server cut are kept with the others of the model only where the catalogue says that its cut equals
    slice + L2.
    """
    spec, requested = plan.spec, plan.resolution.requested
    whole = requested is None or requested == spec.native_dimensions or spec.server_cut_is_prefix
    role = plan.task or plan.input_type or ""
    return (
        *identity,
        spec.address,
        spec.revision or "",
        role,
        spec.prompts.get(role, ""),
        spec.recipe,
        "truncated" if plan.truncate_input else "whole",
        "full" if whole else f"server:{requested}",
    )


def through_cache(call: Call, caching: Caching, send: Send) -> Flow[None]:
    """Gets a call's rows, sending only for what neither the cache nor another call has."""
    taker, flights = _Taker(call), caching.flights
    call.cached, declined, own_only = Cached(), set[object](), False
    landed = flights.landed if caching.first is None else caching.first.landed
    keys, pending = yield from _take(caching, taker, None)
    if keys is None:
        # The cache failed: so there are no keys, nothing is kept and nothing is shared.
        yield from send(call, None)
        return
    while len(pending):
        claim = flights.claim([keys[row] for row in pending], taker.width, landed, call.route, declined, own_only)
        landed = flights.landed
        try:
            led = pending[list(claim.led)]
            if claim.since:
                again = pending[list(claim.since)]
                _, still = yield from _take(caching, taker, again)
                found = set(again.tolist()) - set(still.tolist())
                for position in claim.since:
                    if int(pending[position]) in found:
                        claim.land(position, taker.raw[pending[position]].copy())
                led = np.array([row for row in led if int(row) not in found], dtype=np.intp)
            if len(led):
                call.keeper = _Keeper(call.plan, caching, claim, keys, pending)
                yield from send(call, led)
        finally:
            claim.release()
        positions = list(claim.joined)
        # Whoever leads may have more patience than this call.
        flying = [claim.joined[position] for position in positions]
        ended = (yield Join(flying, call.policy.deadline)) if positions else []
        left = []
        for position, outcome in zip(positions, ended, strict=True):
            row, failed = int(pending[position]), isinstance(outcome, MRLError)
            if failed and claim.is_own(position):
                _fail_as_another(call, row, outcome)
            elif outcome is not None and not failed and taker.take_row(row, outcome):
                call.cached.texts += 1
            else:
                # Another embedder's failure says nothing of this one, which may have another key, or other endpoints.
                own_only = own_only or failed
                declined.add(claim.joined[position])
                left.append(row)
        pending = np.array(left, dtype=np.intp)


def _fail_as_another(call: Call, row: int, error: MRLError) -> None:
    """Another call's error is this call's too: a copy, because a traceback belongs to one raise."""
    if isinstance(error, InputError | ResponseContractError) or getattr(error, "scope", "request") != "request":
        call.fail(row, error)
        return
    own = copy.copy(error)
    own.partial = None
    call.fail_all(np.array([row]), own)


def _take(
    caching: Caching, taker: _Taker, wanted: NDArray[np.intp] | None
) -> Flow[tuple[list[bytes] | None, NDArray[np.intp]]]:
    """Takes what the cache has of the wanted rows, of all for None: their keys, and which of them it has not."""
    out, texts = taker.raw, taker.plan.texts
    if wanted is not None:
        out = np.empty((len(wanted), taker.width), dtype=np.float32)
        texts = [texts[int(row)] for row in wanted]
    first = caching.first if wanted is None else None
    look: Look = first.look if first else (yield CacheLook(caching.store, caching.fields, texts, taker.width, out))
    mask = look.found.mask
    if wanted is None and np.count_nonzero(mask) == len(mask) and taker.take_all():
        usable, missing = len(mask), _NONE
    else:
        rows = np.arange(len(mask)) if wanted is None else wanted
        if wanted is not None:
            taker.raw[rows[mask]] = out[mask]
        taken = taker.take(rows[mask])
        lacking = ~mask
        lacking[mask] = ~taken
        usable, missing = int(taken.sum()), rows[lacking]
    log_found(taker.plan.spec, usable, len(mask) - usable)
    cached = taker.call.cached
    assert cached is not None
    cached.texts += usable
    cached.tokens += look.found.tokens
    cached.usd += look.found.usd
    return look.keys, missing


class _Taker:
    """Turns rows as a cache has them into rows as the caller wants them.

    Attributes:
        width: Numbers needed of each row: the full width where the recipe needs the mean over it.
        raw: (n, width) float32 as the cache has them; the finished rows themselves where the width is the same.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self._rows, plan = call.rows, call.plan
        self.plan = plan
        self._center = plan.spec.is_centered
        self.width = plan.kept_width
        same = self._rows.shape[1] == self.width and not self._center
        self.raw = self._rows if same else np.empty((len(self._rows), self.width), dtype=np.float32)

    def take_all(self) -> bool:
        """Finishes all rows; or says that they have to be looked at one by one, for one may have no direction."""
        rows = self._rows
        truncate_dimensions(self.raw, rows.shape[1], center=self._center, out=rows)
        if np.count_nonzero(rows[:, 0]) < len(rows):
            return False
        self.call.done.fill(True)
        return True

    def take(self, found: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Finishes these rows. Returns for each whether it has a direction at this width."""
        self._rows[found] = truncate_dimensions(self.raw[found], self._rows.shape[1], center=self._center)
        usable = np.asarray(self._rows[found].any(axis=1))
        self.call.done[found[usable]] = True
        return usable

    def take_row(self, row: int, vector: NDArray[np.float32]) -> bool:
        """Finishes one row that another call got. Returns whether it has a direction at this width."""
        self.raw[row] = vector[: self.width]
        return bool(self.take(np.array([row]))[0])


@dataclass(slots=True)
class _Keeper:
    """Keeps what a batch brought, and lets those who wait for it go on."""

    plan: Plan
    caching: Caching
    claim: Claim
    keys: Sequence[bytes]
    pending: NDArray[np.intp]
    _position: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._position = {int(row): position for position, row in enumerate(self.pending)}

    def keep(self, batch: Batch, good: NDArray[np.intp] | None, answer: Answer) -> Flow[None]:
        price = (self.plan.spec.usd_per_million_tokens or 0.0) / 1e6
        lengths = [len(text) for text in batch.texts]
        # A server counts a request's tokens, not a text's: each text gets its share by length.
        per_character = (answer.tokens or 0) / sum(lengths)
        entries = []
        for place in range(len(lengths)) if good is None else good:
            tokens = lengths[place] * per_character
            key, vector = self.keys[batch.rows[place]], answer.vectors[place]
            entries.append(Entry(key, vector, self.plan.spec.address, tokens, tokens * price))
        yield CacheKeep(self.caching.store, entries)
        log_kept(self.plan.spec, len(entries))
        for place, entry in zip(range(len(lengths)) if good is None else good, entries, strict=True):
            self.claim.land(self._position[int(batch.rows[place])], entry.vector)

    def failed(self, rows: Iterable[int], error: MRLError) -> None:
        for row in rows:
            self.claim.fail(self._position[row], error)
