"""The algorithm, once: a generator of operations, which a driver performs with threads, with anyio, or from a script.

Nothing here does I/O. A driver sends each operation's outcome back in, or throws its failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import tenacity

from mrlclient.cached import Cached, Caching, Keeper, Outcome, in_callers_terms, through_cache
from mrlclient.errors import DimensionsMismatchError, InputError, MRLError, ProviderError, ResponseContractError
from mrlclient.models import ModelSpec
from mrlclient.operations import Answer, CountTokens, Dialect, Flow, Gather, Policy, Send, Sleep
from mrlclient.plan import Batch, Plan, token_bound
from mrlclient.result import EmbeddingResult, Usage
from mrlclient.retry import RetryPolicy
from mrlclient.vectors import first_unusable_row, truncate_dimensions

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


def embed(plan: Plan, dialect: Dialect, policy: Policy, caching: Caching | None = None) -> Flow[EmbeddingResult]:
    """Embeds a plan's texts.

    Raises:
        InputError: If a text is too long or refused; `index` counts in the caller's list.
        ProviderError: If a batch failed for good.
    """
    yield from _refuse_long_texts(plan, dialect)
    rows = np.empty((len(plan.texts), plan.resolution.dimensions), dtype=np.float32)
    limit = 1 if plan.packing.serial else policy.max_concurrency

    def send(wanted: NDArray[np.intp] | None, keeper: Keeper | None) -> Flow[list[Outcome]]:
        flows = [_embed_batch(plan, batch, dialect, policy, rows, keeper) for batch in plan.batches(wanted)]
        outcomes: list[Outcome] = yield Gather(flows, limit)
        return outcomes

    if caching is None:
        outcomes, cached = (yield from send(None, None)), None
    else:
        outcomes, cached = yield from through_cache(plan, caching, send, rows)
    in_order = len(plan.rows) == len(rows) and bool((plan.rows == np.arange(len(rows))).all())
    return EmbeddingResult(
        embeddings=rows if in_order else rows[plan.rows],
        spec=plan.spec,
        reduction="client" if any(outcome.cut_here for outcome in outcomes) else plan.resolution.reduction,
        input_type=plan.input_type,
        task=plan.task,
        usage=_usage(plan.spec, outcomes, cached),
        notes=tuple(dict.fromkeys(note for outcome in outcomes for note in outcome.notes)),
        on_narrow=policy.on_narrow,
    )


def _usage(spec: ModelSpec, outcomes: Sequence[Outcome], cached: Cached | None) -> Usage:
    counts = [outcome.tokens for outcome in outcomes]
    tokens = None if None in counts else sum(count for count in counts if count is not None)
    price = spec.usd_per_million_tokens
    usd = None if tokens is None or price is None else tokens * price / 1e6
    return Usage(tokens, usd) if cached is None else Usage(tokens, usd, cached.texts, cached.tokens, cached.usd)


def _refuse_long_texts(plan: Plan, dialect: Dialect) -> Flow[None]:
    """Refuses over-long texts before any work, where the provider can count tokens here."""
    limit = plan.spec.max_input_tokens
    if limit is None or plan.truncate_input or not dialect.counts_tokens:
        return
    suspects = [row for row, text in enumerate(plan.texts) if token_bound(text) > limit]
    if not suspects:
        return
    failure = None
    try:
        counts = yield CountTokens([plan.texts[row] for row in suspects])
    except Exception as error:
        counts, failure = [], _ours(error, dialect)
    if failure is not None:
        raise failure
    long = {plan.given_index(row): count for row, count in zip(suspects, counts, strict=True) if count > limit}
    if long:
        index = min(long)
        raise InputError(
            f"Text {index} has {long[index]} tokens; {plan.spec.address} takes {limit}. "
            "Split it, or pass truncate_input=True to embed its beginning only.",
            index=index,
        )


def _embed_batch(
    plan: Plan, batch: Batch, dialect: Dialect, policy: Policy, rows: NDArray[np.float32], keeper: Keeper | None
) -> Flow[Outcome]:
    """Embeds one batch, writes its finished rows, and has the vectors kept."""
    request = dialect.encode(batch)

    def attempt() -> Flow[tuple[Answer, Outcome]]:
        try:
            reply = yield Send(request)
            answer = dialect.decode(reply, batch)
            return answer, _finish(plan, batch, answer, rows)
        except Exception as error:
            failure = _ours(error, dialect)
        # Raised out here, so that the foreign error, which may hold a key or a text, is not its context.
        raise failure

    failed: MRLError
    try:
        answer, outcome = yield from _with_retries(attempt, policy.retries)
        if keeper is not None:
            yield from keeper.keep(batch, answer)
        return outcome
    except MRLError as error:
        failed = error
    if keeper is not None:
        keeper.failed(batch, failed)
    raise in_callers_terms(failed, plan, batch)


def _ours(error: Exception, dialect: Dialect) -> MRLError:
    return error if isinstance(error, MRLError) else dialect.translate(error)


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


def _finish(plan: Plan, batch: Batch, answer: Answer, rows: NDArray[np.float32]) -> Outcome:
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
        # Consecutive rows are written in place; those between rows of a cache are put there.
        out = rows[batch.rows.start : batch.rows.stop] if isinstance(batch.rows, range) else None
        done = truncate_dimensions(answer.vectors, resolution.dimensions, center=center, out=out)
        if out is None:
            rows[batch.rows] = done
        bad = first_unusable_row(done)
    if bad is not None:
        row, problem = bad
        raise unusable(f"answered with a vector that is {problem} for text {plan.given_index(batch.rows[row])}")
    return Outcome(answer.tokens, width != resolution.received, notes)


def _server_gives(spec: ModelSpec, width: int) -> bool:
    """Whether a server that was left to itself may answer with this width: the native one, or one that it lists."""
    listed = spec.server_dimensions if isinstance(spec.server_dimensions, tuple) else ()
    return width == spec.native_dimensions or width in listed
