"""Single queries that show what narrowing does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.evaluate.metrics import rank
from mrlclient.result import EmbeddingResult

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Example:
    """What one query finds.

    Attributes:
        query: Its index.
        ranks: For each width, the rank of the query's own document; 1 is the first.
        first: For each width, the index of the document that is found first.
    """

    query: int
    ranks: dict[int, int]
    first: dict[int, int]


def examples(
    queries: EmbeddingResult,
    documents: EmbeddingResult,
    relevant: Sequence[int],
    widths: Sequence[int],
    *,
    count: int = 3,
) -> tuple[list[Example], int]:
    """Picks queries that show neither the best nor the worst alone.

    Those that find their own document first at the widest width are ordered by its rank at the narrowest, and cut into
    `count` equal parts; the middle of each is taken.

    Args:
        queries: The queries' vectors.
        documents: The documents' vectors.
        relevant: For each query, the index of its one document.
        widths: Widths to compare, widest first.
        count: Queries to pick, at most.

    Returns:
        The examples, and how many queries they were picked from.
    """
    own = np.asarray(relevant, dtype=np.intp)
    answered = np.flatnonzero(rank(queries.at(widths[0]), documents.at(widths[0]), k=1)[:, 0] == own)

    def rankings(asked: NDArray[np.intp], width: int) -> NDArray[np.intp]:
        return rank(queries.at(width)[asked], documents.at(width), k=len(documents))

    def ranks(found: NDArray[np.intp], asked: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.asarray(np.argmax(found == own[asked, None], axis=1) + 1)

    if not len(answered):
        return [], 0
    by_loss = answered[np.argsort(ranks(rankings(answered, widths[-1]), answered), kind="stable")]
    middles = (np.arange(count) + 0.5) * len(by_loss) / count
    picked = by_loss[np.unique(middles.astype(np.intp))]
    at_width = {width: rankings(picked, width) for width in widths}
    own_ranks = {width: ranks(found, picked) for width, found in at_width.items()}
    return [
        Example(
            query=int(query),
            ranks={width: int(found[place]) for width, found in own_ranks.items()},
            first={width: int(found[place, 0]) for width, found in at_width.items()},
        )
        for place, query in enumerate(picked)
    ], len(answered)
