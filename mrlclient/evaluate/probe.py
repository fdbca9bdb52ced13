"""Whether a model is Matryoshka, when nobody says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError, DimensionsOutOfRangeError, InputError
from mrlclient.evaluate._nesting import NEIGHBOURS, WidthStatistics, width_statistics
from mrlclient.evaluate._order import order_of
from mrlclient.evaluate.collections import Collection, docstrings
from mrlclient.evaluate.metrics import ndcg, rank
from mrlclient.evaluate.verdict import ProbeResult, decide
from mrlclient.models import InputType, is_width
from mrlclient.vectors import l2_normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Pairs of the bundled collection that are embedded if no texts are given.
BUNDLED_PAIRS = 1000
#: Default number of random draws, and of random rotations, at each width.
DRAWS, ROTATIONS = 30, 12

#: By default so many powers of two are measured, none narrower than this.
_WIDTHS, _NARROWEST = 5, 8
#: Random draws for which nDCG is computed.
_NDCG_DRAWS = 10


def probe(
    source: Embedder | NDArray[np.floating],
    texts: Iterable[str] | Collection | None = None,
    widths: Sequence[int] | None = None,
    *,
    input_type: InputType | None = None,
    draws: int = DRAWS,
    rotations: int = ROTATIONS,
    seed: int = 0,
) -> ProbeResult:
    """Finds out whether the first numbers of a model's vectors are an embedding of their own.

    The texts are embedded once, at the full width. Each width is judged by how many of a text's 10 nearest neighbours
    the first numbers keep. They are compared with as many random numbers, and with the first numbers after a random
    rotation of the vectors. A Matryoshka model must beat all of these clearly, at two widths or more, and its numbers
    must not be sorted by variance, which makes any model look nested.

    Args:
        source: An embedder of the model, at any width; or vectors at the full width, (n, D), not necessarily unit rows.
        texts: With an embedder: the texts, rather 1,000 than 100; or a `Collection`, whose documents are probed, and
            for which nDCG is reported too. By default 1,000 pairs of `docstrings()`, about 120,000 tokens.
        widths: The widths to measure. By default the five widest powers of two below the full width.
        input_type: The role of the texts; a collection has its own roles.
        draws: Random draws at each width, 10 or more.
        rotations: Random rotations, 10 or more.
        seed: The random seed: the same seed and vectors give the same figures.

    Returns:
        The verdict and its figures.

    Raises:
        ConfigurationError: If the arguments contradict each other.
        DimensionsOutOfRangeError: If a width is not below the full one.
        InputError: If a vector is all zero or not finite.
        MRLError: As `Embedder.embed`.
    """
    for name, count in (("draws", draws), ("rotations", rotations)):
        if not is_width(count) or count < 10:
            raise ConfigurationError(f"{name} must be 10 or more, not {count!r}.")
    if not isinstance(source, Embedder):
        if texts is not None or input_type is not None:
            raise ConfigurationError("Vectors need neither texts nor a role. Leave these out, or pass an Embedder.")
        vectors = _checked(source)
        return _probe(vectors, _checked_widths(vectors.shape[1], widths), draws, rotations, seed)
    native = source.spec.native_dimensions
    # Before anything is paid for.
    chosen = _checked_widths(native, widths)
    if isinstance(texts, Collection) or texts is None:
        if input_type is not None:
            raise ConfigurationError("A collection's texts have their roles. Leave input_type out.")
        collection = _sample(docstrings(), seed) if texts is None else texts
        vectors = _embedded(source, collection.documents, "document")
        queries = _embedded(source, collection.queries, "query")
        result = _probe(vectors, chosen, draws, rotations, seed)
        statistics = _with_ndcg(result.statistics, queries, vectors, collection, seed)
        return replace(result, statistics=statistics, model=source.spec)
    vectors = _embedded(source, texts, input_type)
    return replace(_probe(vectors, chosen, draws, rotations, seed), model=source.spec)


def _embedded(embedder: Embedder, texts: Iterable[str], input_type: InputType | None) -> NDArray[np.float32]:
    width = embedder.spec.native_dimensions
    return embedder.embed(texts, dimensions=width, input_type=input_type, dtype="float32").embeddings


def _probe(vectors: NDArray[np.float32], widths: Sequence[int], draws: int, rotations: int, seed: int) -> ProbeResult:
    distinct = _distinct(vectors)
    statistics, order = list[WidthStatistics](), None
    # Figures of a few texts would mislead, and with no more texts than neighbours there are none.
    if len(distinct) > 2 * NEIGHBOURS and widths:
        chance = np.random.default_rng(seed)
        statistics = width_statistics(distinct, widths, draws=draws, rotations=rotations, chance=chance)
        order = order_of(distinct, chance)
    verdict, reason, nested = decide(statistics, order, len(distinct))
    return ProbeResult(
        verdict=verdict,
        reason=reason,
        widths=nested,
        statistics=tuple(statistics),
        order=order,
        dimensions=vectors.shape[1],
        texts=len(distinct),
        duplicates=len(vectors) - len(distinct),
        draws=draws,
        rotations=rotations,
        seed=seed,
    )


def _distinct(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The distinct vectors: a text's duplicate would be its neighbour at every width."""
    first = dict[bytes, int]()
    for place, row in enumerate(vectors):
        first.setdefault(row.tobytes(), place)
    return vectors[list(first.values())] if len(first) < len(vectors) else vectors


def _checked(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Unit rows, float32, C-contiguous."""
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise ConfigurationError("Pass an Embedder, or vectors as a matrix of floats, one row a text.")
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1) | ~rows.any(axis=1))
    if len(bad):
        raise InputError(f"Vector {bad[0]} is all zero, or not of finite numbers. Leave it out.", index=int(bad[0]))
    return l2_normalize(rows)


def _checked_widths(native: int, widths: Sequence[int] | None) -> list[int]:
    """The widths to look at, narrowest first."""
    if widths is None:
        powers = [2**power for power in range(24) if _NARROWEST <= 2**power < native]
        return powers[-_WIDTHS:]
    for width in widths:
        if not is_width(width) or not 1 < width < native:
            raise DimensionsOutOfRangeError(
                f"A width to probe is more than 1 and less than the full width, {native}, not {width!r}.",
                dimensions=width,
                native_dimensions=native,
            )
    chosen = sorted(set(widths))
    if len(chosen) < 2:
        raise ConfigurationError("widths must be two or more: one width is no nesting.")
    return chosen


def _sample(collection: Collection, seed: int) -> Collection:
    """A random sample of the pairs of a collection, without its other documents."""
    count = min(BUNDLED_PAIRS, len(collection))
    picked = np.sort(np.random.default_rng(seed).choice(len(collection), count, replace=False))
    documents = {collection.relevant[query]: None for query in picked}
    places = {document: place for place, document in enumerate(documents)}
    return Collection(
        collection.name,
        [collection.queries[query] for query in picked],
        [collection.documents[document] for document in documents],
        [places[collection.relevant[query]] for query in picked],
    )


def _with_ndcg(
    statistics: Sequence[WidthStatistics],
    queries: NDArray[np.float32],
    documents: NDArray[np.float32],
    collection: Collection,
    seed: int,
) -> tuple[WidthStatistics, ...]:
    chance = np.random.default_rng(seed)

    def score(order: NDArray[np.intp]) -> float:
        rankings = rank(_cut(queries, order), _cut(documents, order))
        return fmean(ndcg(dict(enumerate(rankings)), collection.qrels).values())

    in_order = np.arange(documents.shape[1])
    orders = [chance.permutation(in_order) for _ in range(_NDCG_DRAWS)]
    return tuple(
        replace(
            each,
            ndcg=score(in_order[: each.dimensions]),
            ndcg_random=fmean(score(order[: each.dimensions]) for order in orders),
        )
        for each in statistics
    )


def _cut(vectors: NDArray[np.float32], order: NDArray[np.intp]) -> NDArray[np.float32]:
    part = vectors[:, order]
    # A random draw may be all zero of a vector; it is then as far from everything.
    lengths = np.maximum(np.linalg.norm(part, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(part / lengths, dtype=np.float32)
