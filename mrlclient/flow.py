"""The algorithm, once: a generator of operations, which a driver performs with threads, with anyio, or from a script.

Nothing here does I/O. A driver sends each operation's outcome back in, or throws its failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrlclient.cached import Caching, through_cache
from mrlclient.call import Call
from mrlclient.errors import (
    AuthenticationError,
    InputError,
    ModelMismatchError,
    MRLError,
    ProviderError,
    QuotaError,
)
from mrlclient.isolate import deliver
from mrlclient.operations import Flow, Gather
from mrlclient.plan import Batch
from mrlclient.result import EmbeddingResult
from mrlclient.sending import too_long

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Errors after which no other request of the call can fare better.
_HOPELESS = (AuthenticationError, QuotaError, ModelMismatchError)


def embed(call: Call, caching: Caching | None = None) -> Flow[EmbeddingResult]:
    """Embeds a plan's texts.

    Raises:
        InputError: If a text is too long or refused; `index` counts in the caller's list.
        ProviderError: If a batch failed for good. Either has what was got as its `partial`.
    """
    if call.on_error == "raise":
        yield from _refuse_long_texts(call)
    failed: MRLError | None = None
    try:
        if caching is None:
            yield from _send_all(call, None)
        else:
            yield from through_cache(call, caching, _send_all)
    except MRLError as error:
        failed = error
    if failed is None:
        failed = call.verdict()
    if failed is None:
        return call.result()
    if call.done.any():
        failed.partial = call.result(missing=failed)
    raise failed


def _send_all(call: Call, wanted: NDArray[np.intp] | None) -> Flow[None]:
    """Sends for rows; for all of them by default."""
    plan = call.plan
    if call.on_error == "return":
        # Those that are too long are failures of their own, as where the server refuses them.
        rows = range(len(plan.texts)) if wanted is None else wanted
        for row, error in (yield from too_long(plan, call.route.main.provider, rows)).items():
            call.fail(row, error)
    batches = plan.batches(wanted, call.route.main.estimator)
    if len(plan.texts) == 1:
        # A query: nothing is gathered.
        for batch in batches:
            yield from _embed_batch(call, batch)
        return
    limit = 1 if plan.packing.serial else call.policy.max_concurrency
    yield Gather((_embed_batch(call, batch) for batch in batches), limit)


def _embed_batch(call: Call, batch: Batch) -> Flow[None]:
    """Embeds one batch, or says for each of its rows why not."""
    failed = call.given_up
    if failed is None:
        try:
            yield from deliver(call, batch.rows)
            return
        except ProviderError as error:
            failed = error
        if isinstance(failed, _HOPELESS):
            call.given_up = failed
    call.fail_all(batch.rows, failed)
    if call.on_error == "raise":
        raise failed


def _refuse_long_texts(call: Call) -> Flow[None]:
    """Refuses over-long texts before any work, where the provider can count tokens here."""
    plan = call.plan
    refused = yield from too_long(plan, call.route.main.provider, range(len(plan.texts)))
    if refused:
        row = min(refused, key=plan.given_index)
        index = plan.given_index(row)
        raise InputError(f"Text {index} {refused[row]}", index=index)
