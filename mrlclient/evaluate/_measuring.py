"""Every size of one model's vectors, searched with and scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from mrlclient._codes import PACKED, SCALED, DType
from mrlclient._ranges import MIN_SAMPLE
from mrlclient.evaluate._embedding import Embedded
from mrlclient.evaluate._references import FunnelScores, funnel_scores, reference_scores
from mrlclient.evaluate._scoring import DEPTH, Score, Scores, agreeing, judged
from mrlclient.evaluate._searching import Searcher, cut, timed

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Types that round so much that putting the best in order again may pay.
RESCORED = (*SCALED, *PACKED)


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """A size, and what each query scores at it.

    Attributes:
        dimensions: The width.
        dtype: The type.
        rescored: Whether the best were put in order again by float32.
        bytes_per_vector: What is searched.
        scores: Each (n,).
        milliseconds: For a query.
    """

    dimensions: int
    dtype: DType
    rescored: bool
    bytes_per_vector: int
    scores: Scores
    milliseconds: float

    @property
    def walk(self) -> tuple[DType, bool]:
        """What it has in common with the sizes that it is walked down with."""
        return self.dtype, self.rescored


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What was measured of one model.

    Attributes:
        embedded: Its vectors.
        sizes: Type by type, the widest first; the first is the full width in float32.
        references: Name, width and scores.
        funnel: Searches in two stages.
        without_ranges: Widths at which too few vectors differ to find the ranges of int8 and uint8.
    """

    embedded: Embedded
    sizes: list[Size]
    references: list[tuple[Literal["pca", "rotation"], int, Scores]]
    funnel: list[FunnelScores]
    without_ranges: list[int]


def measure(
    embedded: Embedded,
    qrels: Sequence[Mapping[int, float]] | None,
    widths: Sequence[int],
    dtypes: Sequence[DType],
    *,
    rescore_depth: int | None,
    references: bool,
    funnel: bool,
    seed: int,
    tell: Callable[[int], object],
) -> Measured:
    """Searches at every size.

    Args:
        embedded: The vectors.
        qrels: For each query the grades of documents, by their rows; None without judgements.
        widths: Widest first, the full one included.
        dtypes: float32 included.
        rescore_depth: Documents to rescore; None for no rescoring.
        references: Whether to measure them.
        funnel: Whether to measure it.
        seed: Of the random rotations.
        tell: Is told how many widths are done.
    """
    documents, queries = embedded.documents, embedded.queries
    ranked = min(DEPTH, len(documents))
    if qrels is None:
        score = agreeing(Searcher.of(documents, queries, "float32").rank(ranked))
    else:
        score = judged(qrels, len(documents))
    sizes: list[Size] = []
    without_ranges: list[int] = []
    for done, width in enumerate(widths, start=1):
        rows, asked = cut(documents, width), cut(queries, width)
        scalable = _differ(rows)
        if not scalable and any(dtype in SCALED for dtype in dtypes):
            without_ranges.append(width)
        for dtype in dtypes:
            if not (dtype in PACKED and width % 8) and (scalable or dtype not in SCALED):
                sizes += _sizes(Searcher.of(rows, asked, dtype, documents.shape[1]), ranked, score, rescore_depth)
        del rows, asked
        tell(done)
    order = [(dtype, rescored) for dtype in dtypes for rescored in (False, True)]
    narrow = [width for width in widths if width < embedded.spec.native_dimensions]
    return Measured(
        embedded,
        sorted(sizes, key=lambda size: (order.index(size.walk), -size.dimensions)),
        list(reference_scores(documents, queries, narrow, score, seed)) if references and narrow else [],
        list(funnel_scores(documents, queries, narrow, score)) if funnel else [],
        without_ranges,
    )


def _differ(rows: NDArray[np.float32]) -> bool:
    """Whether there are as many different rows as ranges are found with."""
    distinct: set[bytes] = set()
    for row in rows:
        distinct.add(row.tobytes())
        if len(distinct) == MIN_SAMPLE:
            return True
    return False


def _sizes(searcher: Searcher, ranked: int, score: Score, rescore_depth: int | None) -> list[Size]:
    """One size, and the same rescored."""
    stored = searcher.stored
    depth = min(rescore_depth, len(searcher.documents)) if rescore_depth and stored.dtype in RESCORED else 0
    found = searcher.rank(max(ranked, depth))
    sizes = []
    for rescored in (0, depth) if depth else (0,):
        best = searcher.rescore(found, rescored) if rescored else found
        scores = score(best[:, :ranked])
        (milliseconds,) = timed(len(searcher.queries), partial(searcher.search, depth=rescored))
        sizes.append(
            Size(stored.dimensions, stored.dtype, bool(rescored), stored.bytes_per_vector, scores, milliseconds)
        )
    return sizes
