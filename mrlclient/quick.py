"""A query that is in the cache, without the steps of a call: those take longer than the look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.cached import Caching, First
from mrlclient.events import log_found
from mrlclient.plan import is_sendable
from mrlclient.vectors import truncate_dimensions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mrlclient.plan import Plan


@dataclass(frozen=True, slots=True)
class QuickLook:
    """What all queries of an embedder share.

    Attributes:
        caching: The cache.
        plan: The plan of any query.
    """

    caching: Caching
    plan: Plan

    def look(self, text: object) -> NDArray[np.float32] | First | None:
        """The row of a query, (d,) float32, unit length.

        Where it is not there, what a call needs so as not to look again; None where the call has to see for itself.
        """
        if type(text) is not str or text.isspace() or not is_sendable(text):
            return None
        plan, caching = self.plan, self.caching
        landed = caching.flights.landed
        raw = np.empty((1, plan.kept_width), dtype=np.float32)
        look = caching.store.look(caching.fields, (plan.prompt + text,), plan.kept_width, raw)
        if not look.found.mask[0]:
            return First(landed, look)
        row: NDArray[np.float32] = truncate_dimensions(raw, plan.resolution.dimensions, center=plan.spec.is_centered)[0]
        if not row[0] and not row.any():
            return None
        log_found(plan.spec, 1, 0)
        return row
