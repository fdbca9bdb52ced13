"""Single flight: a text that many threads and tasks ask for at once goes out once."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Keys of the flights that ended last. Between a look and a claim there are hardly more.
_RECENT = 1024


class Flight(Future["NDArray[np.float32] | None"]):
    """A row under way: it lands as (w,) float32, fails with an error of ours, or lands as None, which hands it over.

    Attributes:
        width: Numbers that it brings.
        owner: Whose call leads it: all calls of one owner have the same keys, endpoints and patience.
        thread: The thread of the call that leads it.
    """

    def __init__(self, width: int, owner: object) -> None:
        super().__init__()
        self.width = width
        self.owner = owner
        self.thread = threading.get_ident()


@dataclass(slots=True)
class Claim:
    """What one call leads, and what it waits for.

    Attributes:
        led: Positions in the keys that were claimed for which this call has to send.
        joined: Position -> the flight of somebody else.
        since: Those of `led` that somebody else got, or gave up, between the look into the cache and the claim.
    """

    registry: Flights
    keys: Sequence[bytes]
    owner: object
    led: list[int]
    joined: dict[int, Flight]
    since: list[int]
    flights: dict[int, Flight] = field(default_factory=dict)

    def is_own(self, position: int) -> bool:
        """Whether a joined flight is of the same owner."""
        return self.joined[position].owner is self.owner

    def land(self, position: int, row: NDArray[np.float32]) -> None:
        """A row that this call led is there, and in the cache."""
        flight = self._leave(position)
        if flight is not None:
            flight.set_result(row)

    def fail(self, position: int, error: Exception) -> None:
        """It is not to be had; all who wait for it are told."""
        flight = self._leave(position)
        if flight is not None:
            flight.set_exception(error)

    def release(self) -> None:
        """Hands over whatever neither landed nor failed: one of those who wait leads then."""
        for position in list(self.flights):
            flight = self._leave(position)
            if flight is not None:
                flight.set_result(None)

    def _leave(self, position: int) -> Flight | None:
        flight = self.flights.pop(position, None)
        if flight is not None:
            self.registry.leave(self.keys[position], flight)
        return flight


class Flights:
    """What is under way in this process towards one cache. Threads and event loops share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[bytes, Flight] = {}
        self._landed = 0
        self._recent: deque[bytes] = deque(maxlen=_RECENT)
        self._pid = os.getpid()

    @property
    def landed(self) -> int:
        """How many flights have ended so far."""
        return self._landed

    def claim(
        self,
        keys: Sequence[bytes],
        width: int,
        landed: int,
        owner: object,
        declined: Collection[object] = (),
        own_only: bool = False,
    ) -> Claim:
        """Joins the flights that are wide enough, and leads the rest: whoever comes next joins the latest to lead.

        Args:
            keys: What is missing, all different.
            width: The width that is needed.
            landed: `landed` as it was before the cache was looked at.
            owner: Whose call it is.
            declined: Flights that this call cannot wait for.
            own_only: Whether it waits for its owner's only.
        """
        self._leave_to_parent()
        with self._lock:
            ended = self._landed - landed
            recent = set(islice(reversed(self._recent), ended))
            claim = Claim(self, keys, owner, [], {}, [])
            for position, key in enumerate(keys):
                flight = self._under_way.get(key)
                able = flight is not None and flight.width >= width and flight not in declined
                if flight is not None and able and (flight.owner is owner or not own_only):
                    claim.joined[position] = flight
                    continue
                claim.led.append(position)
                claim.flights[position] = self._under_way[key] = Flight(width, owner)
                if key in recent or ended > _RECENT:
                    claim.since.append(position)
            return claim

    def leave(self, key: bytes, flight: Flight) -> None:
        """Takes an ended flight out. By now its row is in the cache, where whoever comes next finds it."""
        self._leave_to_parent()
        with self._lock:
            if self._under_way.get(key) is flight:
                del self._under_way[key]
            self._recent.append(key)
            self._landed += 1

    def _leave_to_parent(self) -> None:
        """After a fork the parent's flights are forgotten: they land in its threads, which are not in this process."""
        if self._pid != os.getpid():
            # The lock first: another thread may see that the rest is done already.
            self._lock, self._under_way, self._pid = threading.Lock(), {}, os.getpid()
