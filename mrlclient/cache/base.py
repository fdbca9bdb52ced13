"""The interface of caches; `mrlclient.testing.CacheContract` tests it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from mrlclient.cache.flights import Flights
from mrlclient.errors import ConfigurationError
from mrlclient.keys import Entry, Found
from mrlclient.models import is_width

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Cache", "CacheStats", "CorruptEntryError", "Entry", "Found"]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache holds, and what it has saved.

    Attributes:
        entries: How many vectors it holds.
        bytes: Their size in bytes; for a file, the size of the file.
        hits: Rows found so far.
        misses: Rows not found so far.
        tokens_saved: Tokens that the found rows had taken.
        usd_saved: What those tokens had cost, in USD.
    """

    entries: int
    bytes: int
    hits: int
    misses: int
    tokens_saved: float
    usd_saved: float


def check_options(
    *, ttl: object = None, max_bytes: object = None, least_bytes: int = 1, stored_type: object = "float32"
) -> None:
    """Refuses what is no option of a cache.

    Raises:
        ConfigurationError: If one of them cannot be.
    """
    if not (ttl is None or is_positive(ttl)):
        raise ConfigurationError(f"ttl of a cache must be a positive number of seconds, or None, not {ttl!r}.")
    if not (max_bytes is None or (is_width(max_bytes) and max_bytes >= least_bytes)):  # type: ignore[operator]
        raise ConfigurationError(f"max_bytes of a cache must be an integer, {least_bytes} or more, not {max_bytes!r}.")
    if stored_type not in ("float32", "float16"):
        raise ConfigurationError(f"stored_type of a cache must be 'float32' or 'float16', not {stored_type!r}.")


def is_positive(value: object) -> bool:
    """Whether a value is a finite number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


class CorruptEntryError(Exception):
    """A stored value is damaged. Caches treat it as a miss; it never leaves them."""


class Cache(ABC):
    """Keeps vectors by key. The widest wins, and serves every narrower width with its prefix.

    Threads may share one. Methods may raise: during embedding, a failure counts as a miss.

    Attributes:
        blocking: Whether a call may wait for a disk or a network; async callers then use a thread.
        flights: Texts under way in this process for this cache.
    """

    blocking: bool = True
    flights: Flights

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Every cache has its own register of texts under way, shared by all embedders that use it."""
        made = super().__new__(cls)
        made.flights = Flights()
        return made

    @property
    @abstractmethod
    def secret(self) -> bytes:
        """16 to 64 random bytes that keys are made with, so that a short text cannot be guessed from its key."""

    @abstractmethod
    def get_many(self, keys: Sequence[bytes], width: int, out: NDArray[np.float32]) -> Found:
        """Writes the first `width` numbers of each row that is at least that wide.

        Args:
            keys: n keys, all different.
            width: How many numbers of each row to write.
            out: (n, width) float32, C-contiguous. Rows that are not found are left in any state.

        Returns:
            Which rows were found. A row that is too narrow, too old or damaged is not.
        """

    @abstractmethod
    def set_many(self, entries: Sequence[Entry]) -> None:
        """Keeps vectors. A wider one replaces a narrower one of its key, never the reverse, whoever else writes."""

    @abstractmethod
    def items(self) -> Iterator[Entry]:
        """Returns every entry that is readable and not too old, in any order."""

    @abstractmethod
    def stats(self) -> CacheStats:
        """Returns what the cache holds, and what it has saved since it was made."""

    @abstractmethod
    def prune(self) -> int:
        """Drops what is too old, and the least recently used above the size limit. Returns the number dropped."""

    @abstractmethod
    def clear(self) -> int:
        """Drops everything. Returns the number dropped."""

    @abstractmethod
    def verify(self) -> tuple[int, int]:
        """Reads everything and drops what is damaged. Returns the numbers of good and of dropped entries."""

    @abstractmethod
    def close(self) -> None:
        """Writes what is pending and releases resources. Further calls do nothing."""
