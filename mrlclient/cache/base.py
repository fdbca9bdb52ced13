"""What a cache of embeddings keeps: the contract that every one of them passes (`mrlclient.testing.CacheContract`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Entry:
    """A vector to keep.

    Attributes:
        key: 32 bytes; see `mrlclient.keys`. It holds neither the text nor the width.
        vector: (w,) float32, as the provider sent it: not cut, not scaled.
        model: The model as the catalogue names it, `provider:name`; for people to read.
        tokens: Tokens that this text took; a share of its request's, where the provider counts requests.
        usd: What those tokens cost, in USD.
        created: Seconds since 1970; 0 for now.
    """

    key: bytes
    vector: NDArray[np.float32] = field(repr=False)
    model: str = ""
    tokens: float = 0.0
    usd: float = 0.0
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a cache had.

    Attributes:
        mask: (n,) bool, true for each key whose row was written.
        tokens: Tokens that the rows found had taken, summed.
        usd: What those had cost, in USD.
    """

    mask: NDArray[np.bool_]
    tokens: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache holds, and what it was good for.

    Attributes:
        entries: Vectors held.
        bytes: What they take, in bytes; of a file, the file's size.
        hits: Rows found so far.
        misses: Rows not found so far.
        tokens_saved: Tokens that the rows found had taken.
        usd_saved: What those had cost, in USD.
    """

    entries: int
    bytes: int
    hits: int
    misses: int
    tokens_saved: float
    usd_saved: float


class CorruptEntryError(Exception):
    """A stored value is not what was stored. Stores treat it as a miss; it never leaves them."""


class Cache(ABC):
    """Keeps vectors by key; the widest wins, and any narrower width is its prefix.

    Threads may share one. Methods may raise: whoever calls them from an embedding treats a failure as a miss.
    """

    @property
    @abstractmethod
    def secret(self) -> bytes:
        """16 to 64 random bytes that keys are made with, so that a short text cannot be guessed from its key."""

    @abstractmethod
    def get_many(self, keys: Sequence[bytes], width: int, out: NDArray[np.float32]) -> Found:
        """Writes the first `width` numbers of each row that is at least that wide.

        Args:
            keys: n keys, all different.
            width: Numbers wanted of each row.
            out: (n, width) float32, C-contiguous. Rows that are not found are left in any state.

        Returns:
            Which rows were found. A row that is narrower, too old or damaged is not.
        """

    @abstractmethod
    def set_many(self, entries: Sequence[Entry]) -> None:
        """Keeps vectors. A wider one replaces a narrower one of the same key, never the reverse, whoever else writes."""

    @abstractmethod
    def items(self) -> Iterator[Entry]:
        """Every entry that can be read, in any order."""

    @abstractmethod
    def stats(self) -> CacheStats:
        """What is held, and what it was good for since the cache was made."""

    @abstractmethod
    def prune(self) -> int:
        """Drops what is too old, and the least recently used beyond the size allowed. Returns the number dropped."""

    @abstractmethod
    def clear(self) -> int:
        """Drops everything. Returns the number dropped."""

    @abstractmethod
    def verify(self) -> tuple[int, int]:
        """Reads everything and drops what is damaged. Returns the numbers of good and of dropped entries."""

    @abstractmethod
    def close(self) -> None:
        """Writes what is pending and lets go. Further calls do nothing."""
