"""Finding what a request was refused for: its size, or a few of its texts. The others are embedded.

Pure, as the flow that it is part of.
"""

from __future__ import annotations

import numpy as np

from mrlclient.call import Call
from mrlclient.errors import ProviderError
from mrlclient.operations import Flow
from mrlclient.plan import Rows
from mrlclient.sending import send


def deliver(call: Call, rows: Rows) -> Flow[None]:
    """Gets rows embedded; those that the provider refuses, however small the request, are failures of their own.

    A request of n texts with one bad one among them takes 2 log2(n) + 2 requests at most.

    Raises:
        ProviderError: If what is left is not to be had, for a reason that is not a text's own.
    """
    refusal = yield from _refusal(call, rows)
    if refusal is None:
        return
    if len(rows) == 1:
        if len(call.plan.texts) == 1:
            # Whether it is the text or the request, a single one cannot tell.
            raise refusal
        call.fail(int(rows[0]), refusal)
    elif refusal.scope == "size":
        for half in _halves(rows):
            yield from deliver(call, half)
    else:
        yield from _search(call, np.asarray(rows), refusal)


def _refusal(call: Call, rows: Rows) -> Flow[ProviderError | None]:
    """Sends for rows. Returns why they were refused as a request; None where they were not."""
    try:
        yield from send(call, call.open(rows))
    except ProviderError as error:
        if error.scope == "request":
            raise
        return error
    return None


def _search(call: Call, rows: Rows, refusal: ProviderError) -> Flow[None]:
    """Finds the bad texts of a refused request, unless it is the request itself that is refused."""
    # If not even one of these gets through alone, it is not about a text: then the others are not tried one by one.
    places = dict.fromkeys((0, len(rows) - 1, len(rows) // 2))
    refused = []
    for place in places:
        error = yield from _refusal(call, rows[place : place + 1])
        if error is None:
            break
        refused.append((place, error))
    else:
        raise refusal
    for bad, error in refused:
        call.fail(int(rows[bad]), error)
    rest = np.delete(np.asarray(rows), [*(bad for bad, _ in refused), place])
    if refused:
        yield from deliver(call, rest)
    else:
        yield from _isolate(call, rest, None)


def _isolate(call: Call, rows: Rows, refusal: ProviderError | None) -> Flow[None]:
    """Finds the bad texts of rows among which there is one, by halving.

    Args:
        call: The call.
        rows: At least one.
        refusal: What they were refused with; None where it is known only from a request that held them and others.
    """
    if len(rows) == 1:
        # Nobody is blamed unheard.
        refusal = refusal or (yield from _refusal(call, rows))
        if refusal is not None:
            call.fail(int(rows[0]), refusal)
        return
    first, second = _halves(rows)
    refusal = yield from _refusal(call, first)
    if refusal is None:
        # So it is in the other half, which need not be sent for as a whole.
        yield from _isolate(call, second, None)
        return
    yield from _isolate(call, first, refusal)
    refusal = yield from _refusal(call, second)
    if refusal is not None:
        yield from _isolate(call, second, refusal)


def _halves(rows: Rows) -> tuple[Rows, Rows]:
    middle = len(rows) // 2
    return rows[:middle], rows[middle:]
