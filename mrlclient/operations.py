"""What a flow asks a driver to do, and what it needs to know of a provider and a cache. No I/O."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mrlclient.dimensions import OnNarrow
from mrlclient.errors import MRLError
from mrlclient.keys import Entry, Look
from mrlclient.models import ModelSpec
from mrlclient.packing import Packing
from mrlclient.plan import Batch
from mrlclient.retry import RetryPolicy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mrlclient.limits import Quota
    from mrlclient.pacing import Ending, Ticket

T = TypeVar("T")


class Performer(Protocol):
    """The half of a provider that does I/O or computes."""

    def send(self, request: Any, timeout: float | None = None) -> Any:
        """Sends a request and waits for the reply, `timeout` seconds at most."""
        ...

    async def asend(self, request: Any, timeout: float | None = None) -> Any:
        """Sends a request and awaits the reply."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included."""
        ...


# Not frozen, as what lives for a moment only: that would double the time it takes to make one, and its class.
@dataclass(slots=True)
class Send:
    """Send a request that the provider encoded, and wait `timeout` seconds at most; the outcome is its reply."""

    performer: Performer
    request: Any = field(repr=False)
    timeout: float | None = None


@dataclass(slots=True)
class CountTokens:
    """Count the tokens of some texts; the outcome is a list of integers."""

    performer: Performer
    texts: Sequence[str] = field(repr=False)


@dataclass(slots=True)
class Now:
    """Look at the clock; the outcome is seconds, which never run backwards."""


@dataclass(slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(slots=True)
class Wait:
    """Wait for a future, `timeout` seconds at most; the outcome is whether it is done."""

    future: Future[Any]
    timeout: float


@dataclass(slots=True)
class Reserve:
    """Reserve a request and its tokens within a limit; the outcome is seconds to wait before it may go."""

    gate: Gate
    tokens: int


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


@dataclass(slots=True)
class CacheLook:
    """Look into a cache; the outcome is a `Look`, and the rows found are written to `out`."""

    store: CacheStore
    fields: Sequence[str]
    texts: Sequence[str] = field(repr=False)
    width: int
    out: NDArray[np.float32] = field(repr=False)


@dataclass(slots=True)
class CacheKeep:
    """Keep vectors in a cache."""

    store: CacheStore
    entries: Sequence[Entry] = field(repr=False)


@dataclass(slots=True)
class Join:
    """Wait for rows that other calls are getting, `timeout` seconds at most.

    The outcome is a list: for each a row, the error that it ended with, or None where it was handed over, or is not
    there by then.
    """

    flights: Sequence[Future[NDArray[np.float32] | None]] = field(repr=False)
    timeout: float


@dataclass(slots=True)
class Gather:
    """Run flows; the outcome is the list of their results. The first failure stops all.

    At most `limit` of them are on the way to a reply; a few others may go on with the one they have. The flows are
    taken one by one as there is room to run them, each by one at a time, in any thread: a generator may make them.
    """

    flows: Iterable[Flow[Any]] = field(repr=False)
    limit: int


Operation = Send | CountTokens | Now | Sleep | Wait | Reserve | CacheLook | CacheKeep | Join | Gather
Flow = Generator[Operation, Any, T]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider made of a batch.

    Attributes:
        vectors: (n, w) float32, or codes of the type asked for: a row a text, in the batch's order.
        tokens: Tokens counted; None where the provider did not say.
        notes: Parameters that the server ignored, though its answer can be used.
        model: The model as the server named it; None where it did not.
    """

    vectors: NDArray[Any] = field(repr=False)
    tokens: int | None = None
    notes: tuple[str, ...] = ()
    model: str | None = None


class Gate(Protocol):
    """What bounds the requests of one account; see `mrlclient.gates`."""

    @property
    def blocking(self) -> bool:
        """Whether `reserve` may wait for a network."""
        ...

    def enter(self) -> Ticket: ...
    def leave(self, ticket: Ticket, outcome: Ending) -> None: ...
    def reserve(self, tokens: int) -> float: ...
    def give_back(self, tokens: int) -> None: ...
    def settle(self, reserved: int, used: int) -> None: ...
    def observe(self, quota: Quota) -> None: ...
    def pause(self, seconds: float) -> None: ...
    def paused(self) -> float: ...
    def first_attempt(self) -> None: ...
    def may_retry(self) -> bool: ...


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

    def quota(self, reply: Any) -> Quota | None:
        """What a reply says about the limits of the account."""
        ...


class Speaker(Dialect, Performer, Protocol):
    """A whole provider."""

    @property
    def identity(self) -> tuple[str, ...]:
        """What else than the model and its revision decides a vector."""
        ...

    @property
    def revision(self) -> str | None:
        """The commit of the model's files."""
        ...

    @property
    def encoding_formats(self) -> tuple[str, ...]:
        """How a server is asked to write vectors."""
        ...

    def close(self) -> None: ...
    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """How hard to try, and how much at once.

    Attributes:
        retries: When to try again.
        deadline: Seconds that one request may take with all its attempts, waits included.
        max_concurrency: Requests of one call under way at once.
        on_narrow: What to do about a width narrower than the model's authors evaluated.
    """

    retries: RetryPolicy
    deadline: float
    max_concurrency: int
    on_narrow: OnNarrow
