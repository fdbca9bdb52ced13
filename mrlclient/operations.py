"""What a flow asks a driver to do, and what it needs to know of a provider and a cache. No I/O."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mrlclient.dimensions import OnNarrow
from mrlclient.errors import MRLError
from mrlclient.keys import Entry, Look
from mrlclient.models import ModelSpec
from mrlclient.plan import Batch, Packing
from mrlclient.retry import RetryPolicy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request that the provider encoded; the outcome is its reply.

    Attributes:
        timeout: Seconds that it may take at most, where that is less than the provider's own timeout.
    """

    request: Any = field(repr=False)
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Count the tokens of some texts; the outcome is a list of integers."""

    texts: Sequence[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


class CacheStore(Protocol):
    """A cache as a flow sees it: looking and keeping never fail."""

    @property
    def blocking(self) -> bool:
        """Whether a call may wait for a disk or a network."""
        ...

    def look(self, fields: Sequence[str], texts: Sequence[str], width: int, out: NDArray[np.float32]) -> Look:
        """Makes the texts' keys and writes the rows that are there."""
        ...

    def keep(self, entries: Sequence[Entry]) -> None:
        """Keeps vectors."""
        ...


@dataclass(frozen=True, slots=True)
class CacheLook:
    """Look into a cache; the outcome is a `Look`, and the rows found are written to `out`."""

    store: CacheStore
    fields: Sequence[str]
    texts: Sequence[str] = field(repr=False)
    width: int
    out: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CacheKeep:
    """Keep vectors in a cache."""

    store: CacheStore
    entries: Sequence[Entry] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for rows that other calls are getting.

    The outcome is a list: for each a row, the error that it ended with, or None where it was handed over.
    """

    flights: Sequence[Future[NDArray[np.float32] | None]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gather:
    """Run flows, at most `limit` at a time; the outcome is the list of their results. The first failure stops all."""

    flows: Sequence[Flow[Any]]
    limit: int


Operation = Send | CountTokens | CacheLook | CacheKeep | Join | Sleep | Gather
Flow = Generator[Operation, Any, T]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider made of a batch.

    Attributes:
        vectors: (n, w) float32, a row a text, in the batch's order.
        tokens: Tokens counted; None where the provider did not say.
        notes: Parameters that the server ignored, though its answer can be used.
    """

    vectors: NDArray[np.float32] = field(repr=False)
    tokens: int | None = None
    notes: tuple[str, ...] = ()


class Dialect(Protocol):
    """The pure half of a provider."""

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        ...

    @property
    def packing(self) -> Packing:
        """How batches are packed."""
        ...

    @property
    def counts_tokens(self) -> bool:
        """Whether `CountTokens` can be asked for."""
        ...

    def encode(self, batch: Batch) -> Any:
        """The request for a batch."""
        ...

    def decode(self, reply: Any, batch: Batch) -> Answer:
        """The answer in a reply.

        Raises:
            ProviderError: If the reply is an error or cannot be used.
            InputError: If it refuses one text; `index` counts within the batch.
        """
        ...

    def translate(self, failure: Exception) -> MRLError:
        """Our error for whatever sending raised."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """How hard to try, and how much at once."""

    retries: RetryPolicy
    max_concurrency: int
    on_narrow: OnNarrow
