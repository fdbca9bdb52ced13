"""Getting rows embedded within every bound: attempts, waits, the deadline, the limits of an account, other endpoints.

Pure, as the flow that it is part of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.answers import take
from mrlclient.call import Call
from mrlclient.errors import (
    InputError,
    MRLError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    ResponseContractError,
)
from mrlclient.events import log_answered, log_retry, log_sent
from mrlclient.models import ModelSpec
from mrlclient.operations import Answer, CountTokens, Flow, Gate, Now, Reserve, Send, Sleep, Speaker, Wait
from mrlclient.plan import Batch, Plan, Rows
from mrlclient.retry import Attempts
from mrlclient.tokens import Load

if TYPE_CHECKING:
    from mrlclient.endpoints import Endpoint
    from mrlclient.pacing import Ending

#: Statuses of a server that has too much to do.
_OVERLOADED = frozenset({429, 503, 529})

#: The code of errors that are not the endpoint's: a bound of ours let nothing through to it.
_NOT_SENT = "not_sent"


def send(call: Call, rows: Rows) -> Flow[None]:
    """Gets rows embedded and written, whatever it takes.

    What is usable of an answer is kept, and only the rest is asked for again. A text that a server names as refused is
    a failure of its own, and so is one whose vector stays unusable where others of the same answer were fine.

    Raises:
        ProviderError: If what is left is not to be had. Its `scope` says whether smaller requests may fare better.
    """
    if not len(rows):
        return
    spec, policy = call.plan.spec, call.policy
    now = yield Now()
    effort = _Effort(call, now + policy.deadline)
    attempts = Attempts(policy.retries)
    left, error = yield from _round(effort, rows, now)
    while len(left):
        if error is not None:
            wait = attempts.wait_after(error)
            problem = "" if wait is None else _no_time(wait, effort.deadline - (yield Now()), policy.deadline)
            if wait is not None and not problem and effort.gate is not None and not effort.gate.may_retry():
                problem = "too many requests failed lately to try each of them again"
            if wait is None or problem:
                if problem:
                    error.add_note(f"Not tried again: {problem}.")
                if isinstance(error, ResponseContractError) and len(left) < len(rows):
                    for row in left:
                        call.fail(int(row), error)
                    return
                raise error
            effort.attempt += 1
            log_retry(spec, effort.attempt, wait, error)
            yield Sleep(wait)
        left, error = yield from _round(effort, left, (yield Now()))


@dataclass(slots=True)
class _Effort:
    """What it takes to get some rows.

    Attributes:
        call: The call that wants them.
        deadline: When it has to be over, on the driver's clock.
        attempt: Which attempt it is, from 1.
        gate: What the last request went through: a budget is charged where it was paid into.
    """

    call: Call
    deadline: float
    attempt: int = 1
    gate: Gate | None = None


def _no_time(wait: float, left: float, deadline: float) -> str:
    return f"the deadline of {deadline:g} s leaves no time to wait {wait:.3g} s" if wait >= left else ""


def _round(effort: _Effort, rows: Rows, now: float) -> Flow[tuple[Rows, ProviderError | None]]:
    """Asks one endpoint after the other until one answers.

    Returns:
        The rows that are left; and, where nobody gave them a good answer, the error that says most.

    Raises:
        ProviderError: If the request was refused for its size, or for a text in it: nobody else would take it either.
    """
    route, worst = effort.call.route, None
    tried: list[Endpoint] = []
    while (endpoint := route.choose(now, tried)) is not None:
        tried.append(endpoint)
        failed: ProviderError | None
        try:
            rows, failed = yield from _ask(effort, endpoint, rows, now)
        except ProviderError as error:
            failed = error
        if failed is None:
            route.succeeded(endpoint)
            return rows, None
        if failed.scope != "request":
            raise failed
        now = yield Now()
        if failed.code != _NOT_SENT:
            route.failed(endpoint, now, failed)
        # What may pass says more than what does not: it is what the next round is for.
        worst = failed if worst is None or failed.retryable or not worst.retryable else worst
    return rows, worst


def _ask(effort: _Effort, endpoint: Endpoint, rows: Rows, now: float) -> Flow[tuple[Rows, ProviderError | None]]:
    """Asks one endpoint once, for as many of the rows as it takes.

    Returns:
        The rows that are left; and, where their vectors were unusable, the error that says so.
    """
    call = effort.call
    plan = call.plan_for(endpoint)
    if plan is not call.plan and (refused_here := (yield from too_long(plan, endpoint.provider, rows))):
        # The main model was asked about the length of each text at the start, this one only now.
        for row, error in refused_here.items():
            call.fail(row, error)
        return call.open(rows), None
    batch = (
        plan.batch(rows, call.room(rows))
        if plan is call.plan
        else next(plan.batches(np.asarray(rows), endpoint.estimator))
    )
    rest = rows[len(batch.rows) :]
    endpoint.health.ask(now)
    request = object()
    endpoint.under_way.add(request)
    load, refused = plan.sizes.load(batch.rows), None
    try:
        answer = yield from _exchange(effort, endpoint, batch, load)
        if plan.packing.estimated and answer.tokens:
            endpoint.estimator.learn(load, answer.tokens)
        bad, problem = yield from take(call, endpoint, plan, batch, answer)
        return _both(bad, rest), problem
    except InputError as error:
        if error.index is None:
            raise
        refused = error
    except ProviderError as error:
        if error.scope == "size" and plan.packing.estimated and len(batch.rows) > 1:
            plan.packing.was_refused(load, endpoint.estimator)
        raise
    finally:
        endpoint.under_way.discard(request)
    assert refused is not None
    assert refused.index is not None
    call.fail(int(batch.rows[refused.index]), refused)
    return _both(np.delete(np.asarray(batch.rows), refused.index), rest), None


def _both(first: Rows, second: Rows) -> Rows:
    # An empty range alone would be taken for floats.
    return np.concatenate([np.asarray(part, dtype=np.intp) for part in (first, second)]) if len(second) else first


def _exchange(effort: _Effort, endpoint: Endpoint, batch: Batch, load: Load) -> Flow[Answer]:
    """One request and its answer, within the limits of the endpoint's account."""
    gate, deadline, spec = endpoint.gate, effort.deadline, endpoint.provider.spec
    effort.gate = gate
    if gate is None:
        return (yield from _request(effort, endpoint, batch))
    # Put right by what the server counted.
    tokens = int(endpoint.estimator.expected(load)) + 1
    ticket = gate.enter()
    ending: Ending = "failed"
    try:
        if ticket.ready is not None and not (yield Wait(ticket.ready, max(deadline - (yield Now()), 0.0))):
            raise ProviderTimeoutError(
                f"{spec.address}: the deadline passed before it was this request's turn. Send less at once, or "
                "raise deadline or Limits(max_in_flight=...)",
                provider=spec.provider,
                code=_NOT_SENT,
            )
        yield from _wait_for_turn(spec, gate, tokens, deadline)
        if effort.attempt == 1:
            # Only now: what is paid in by a thousand that still wait would be lost on a budget that is full.
            gate.first_attempt()
        try:
            answer = yield from _request(effort, endpoint, batch)
        except ProviderError as error:
            ending = "limited" if error.status in _OVERLOADED else "failed"
            asked = error.retry_after
            # A longer wait is an error at once, for whoever comes next as well.
            if error.status == 429 and asked is not None and asked <= effort.call.policy.retries.max_wait:
                gate.pause(asked)
            raise
        ending = "ok"
        if answer.tokens is not None:
            gate.settle(tokens, answer.tokens)
        return answer
    finally:
        gate.leave(ticket, ending)


def _wait_for_turn(spec: ModelSpec, gate: Gate, tokens: int, deadline: float) -> Flow[None]:
    """Waits until the limits per minute have room for a request.

    Raises:
        RateLimitError: If that is after the deadline.
    """
    wait = yield Reserve(gate, tokens)
    gone = False
    try:
        while wait > 0:
            if wait >= deadline - (yield Now()):
                raise RateLimitError(
                    f"{spec.address}: the limits per minute have room in {wait:.3g} s only, after the deadline. "
                    "Send less at once, or raise deadline or limits",
                    provider=spec.provider,
                    code=_NOT_SENT,
                    retry_after=wait,
                )
            yield Sleep(wait)
            # Meanwhile the server may have asked everybody to wait.
            wait = gate.paused()
        gone = True
    finally:
        if not gone:
            gate.give_back(tokens)


def _request(effort: _Effort, endpoint: Endpoint, batch: Batch) -> Flow[Answer]:
    """One request and its answer."""
    provider, gate = endpoint.provider, endpoint.gate
    spec = provider.spec
    left = effort.deadline - (yield Now())
    if left <= 0:
        raise ProviderTimeoutError(
            f"{spec.address}: the deadline passed before it could be sent", provider=spec.provider, code=_NOT_SENT
        )
    effort.call.asked.append(endpoint)
    log_sent(spec, len(batch.texts), effort.attempt)
    try:
        reply = yield Send(provider, provider.encode(batch), left)
        quota = None if gate is None else provider.quota(reply)
        if gate is not None and quota is not None:
            gate.observe(quota)
        answer = provider.decode(reply, batch)
        log_answered(spec, len(batch.texts), answer.tokens)
        return answer
    except Exception as error:
        failure = error if isinstance(error, MRLError) else provider.translate(error)
    # Raised out here, so that the foreign error, which may hold a key or a text, is not its context.
    raise failure


def too_long(plan: Plan, provider: Speaker, rows: Rows) -> Flow[dict[int, InputError]]:
    """Which texts of these rows are too long, where the provider can count tokens here and may not cut them.

    Returns:
        Row -> the error, whose message goes on after "Text 3".
    """
    limit = plan.spec.max_input_tokens
    if limit is None or plan.truncate_input:
        return {}
    bounds = plan.sizes.bounds
    suspects = [int(row) for row in rows if bounds[row] > limit]
    if not suspects or not provider.counts_tokens:
        return {}
    failure, counts = None, []
    try:
        counts = yield CountTokens(provider, [plan.texts[row] for row in suspects])
    except Exception as error:
        failure = error if isinstance(error, MRLError) else provider.translate(error)
    if failure is not None:
        raise failure
    return {
        row: InputError(
            f"has {count} tokens; {plan.spec.address} takes {limit}. Split it, or pass truncate_input=True to embed "
            "its beginning only.",
            index=row,
        )
        for row, count in zip(suspects, counts, strict=True)
        if count > limit
    }
