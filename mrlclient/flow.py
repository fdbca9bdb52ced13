"""The algorithm, once: a generator of operations, which a driver performs with threads, with anyio, or from a script.

Nothing here does I/O. A driver sends each operation's outcome back in, or throws its failure.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import tenacity

from mrlclient.dimensions import OnNarrow
from mrlclient.errors import DimensionsMismatchError, InputError, MRLError, ProviderError, ResponseContractError
from mrlclient.models import ModelSpec
from mrlclient.plan import Batch, Packing, Plan, token_bound
from mrlclient.result import EmbeddingResult, Usage
from mrlclient.retry import RetryPolicy
from mrlclient.vectors import first_unusable_row, truncate_dimensions

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request that the provider encoded; the outcome is its reply."""

    request: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Count the tokens of some texts; the outcome is a list of integers."""

    texts: Sequence[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Gather:
    """Run flows, at most `limit` at a time; the outcome is the list of their results. The first failure stops all."""

    flows: Sequence[Flow[Any]]
    limit: int


Operation = Send | CountTokens | Sleep | Gather
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


def embed(plan: Plan, dialect: Dialect, policy: Policy) -> Flow[EmbeddingResult]:
    """Embeds a plan's texts.

    Raises:
        InputError: If a text is too long or refused; `index` counts in the caller's list.
        ProviderError: If a batch failed for good.
    """
    yield from _refuse_long_texts(plan, dialect)
    rows = np.empty((len(plan.texts), plan.resolution.dimensions), dtype=np.float32)
    flows = [_embed_batch(plan, batch, dialect, policy, rows) for batch in plan.batches]
    outcomes: list[_Outcome] = yield Gather(flows, 1 if dialect.packing.serial else policy.max_concurrency)
    in_order = len(plan.rows) == len(rows) and bool((plan.rows == np.arange(len(rows))).all())
    counts = [outcome.tokens for outcome in outcomes]
    tokens = None if None in counts else sum(count for count in counts if count is not None)
    price = plan.spec.usd_per_million_tokens
    return EmbeddingResult(
        embeddings=rows if in_order else rows[plan.rows],
        spec=plan.spec,
        reduction="client" if any(outcome.cut_here for outcome in outcomes) else plan.resolution.reduction,
        input_type=plan.input_type,
        task=plan.task,
        usage=Usage(tokens, None if tokens is None or price is None else tokens * price / 1e6),
        notes=tuple(dict.fromkeys(note for outcome in outcomes for note in outcome.notes)),
        on_narrow=policy.on_narrow,
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    tokens: int | None
    cut_here: bool
    notes: tuple[str, ...]


def _refuse_long_texts(plan: Plan, dialect: Dialect) -> Flow[None]:
    """Refuses over-long texts before any work, where the provider can count tokens here."""
    limit = plan.spec.max_input_tokens
    if limit is None or plan.truncate_input or not dialect.counts_tokens:
        return
    suspects = [row for row, text in enumerate(plan.texts) if token_bound(text) > limit]
    if not suspects:
        return
    counts = yield CountTokens([plan.texts[row] for row in suspects])
    long = {plan.given_index(row): count for row, count in zip(suspects, counts, strict=True) if count > limit}
    if long:
        index = min(long)
        raise InputError(
            f"Text {index} has {long[index]} tokens; {plan.spec.address} takes {limit}. "
            "Split it, or pass truncate_input=True to embed its beginning only.",
            index=index,
        )


def _embed_batch(
    plan: Plan, batch: Batch, dialect: Dialect, policy: Policy, rows: NDArray[np.float32]
) -> Flow[_Outcome]:
    """Embeds one batch and writes its finished rows."""
    request = dialect.encode(batch)
    out = rows[batch.start : batch.start + len(batch.texts)]

    def attempt() -> Flow[_Outcome]:
        reply, failure = None, None
        try:
            reply = yield Send(request)
        except Exception as error:
            failure = error if isinstance(error, MRLError) else dialect.translate(error)
        if failure is not None:
            # Raised out here, so that the foreign error, which may hold a key or a text, is not its context.
            raise failure
        return _finish(plan, batch, dialect.decode(reply, batch), out)

    refused = None
    try:
        return (yield from _with_retries(attempt, policy.retries))
    except InputError as error:
        refused = error
    if refused.index is None:
        raise refused
    index = plan.given_index(batch.start + refused.index)
    raise InputError(f"Text {index}: {refused}", index=index)


def _with_retries(attempt: Callable[[], Flow[T]], policy: RetryPolicy) -> Flow[T]:
    """Runs `attempt` until it succeeds, or until the policy has had enough and raises its last error."""
    state = tenacity.RetryCallState(policy.retrying, None, (), {})
    while True:
        try:
            return (yield from attempt())
        except ProviderError as error:
            state.set_exception((type(error), error, error.__traceback__))
        # tenacity keeps statistics for each thread, which have to exist. `iter` raises the error itself where there is
        # to be no further attempt.
        policy.retrying.begin()
        wait = policy.retrying.iter(state)
        assert isinstance(wait, tenacity.DoSleep)
        yield Sleep(wait)
        state.prepare_for_next_attempt()


def _finish(plan: Plan, batch: Batch, answer: Answer, out: NDArray[np.float32]) -> _Outcome:
    """Checks an answer, and writes its rows cut and normalised.

    Raises:
        ResponseContractError: If the answer does not hold one usable vector of a width that can be used for each text.
    """
    spec, resolution = plan.spec, plan.resolution
    count, width = answer.vectors.shape

    def unusable(problem: str, kind: type[ResponseContractError] = ResponseContractError) -> ResponseContractError:
        return kind(f"{spec.address} {problem}", provider=spec.provider, retryable=True)

    if count != len(batch.texts):
        raise unusable(f"answered with {count} vectors for {len(batch.texts)} texts")
    notes = answer.notes
    if width != resolution.received:
        asked = resolution.requested
        if asked is None or width <= asked or not _server_gives(spec, width):
            raise unusable(
                f"answered with {width} dimensions where {resolution.received} were expected", DimensionsMismatchError
            )
        notes += (f"{spec.address}: the server ignored dimensions={asked} and sent {width}; they were cut here.",)
    bad = first_unusable_row(answer.vectors, unit_length=spec.unit_length)
    if bad is None:
        center = spec.recipe == "center_slice_l2" and width == spec.native_dimensions
        truncate_dimensions(answer.vectors, resolution.dimensions, center=center, out=out)
        bad = first_unusable_row(out)
    if bad is not None:
        row, problem = bad
        raise unusable(f"answered with a vector that is {problem} for text {plan.given_index(batch.start + row)}")
    return _Outcome(answer.tokens, width != resolution.received, notes)


def _server_gives(spec: ModelSpec, width: int) -> bool:
    """Whether a server that was left to itself may answer with this width: the native one, or one that it lists."""
    listed = spec.server_dimensions if isinstance(spec.server_dimensions, tuple) else ()
    return width == spec.native_dimensions or width in listed
