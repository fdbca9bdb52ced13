"""Which vector size is enough on your own data. Everything is computed from one embedding pass at the full width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from mrlclient._codes import PACKED, SCALED, DType
from mrlclient._progress import progress_of
from mrlclient._ranges import MIN_SAMPLE
from mrlclient.dimensions import check_width
from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError
from mrlclient.evaluate._assembling import compare, model_outcome
from mrlclient.evaluate._embedding import embed_once
from mrlclient.evaluate._environment import environment
from mrlclient.evaluate._measuring import RESCORED, measure
from mrlclient.evaluate.collections import Collection
from mrlclient.evaluate.loading import SearchData, groups_of, load
from mrlclient.evaluate.outcome import DataSet, Outcome, Settings
from mrlclient.models import ModelSpec, is_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Types that are compared unless others are named.
DTYPES: tuple[DType, ...] = ("float32", "float16", "int8", "binary")
_NARROWEST = 32
#: A field with more values than this does not name groups.
_MOST_GROUPS = 50
#: With fewer permutations p-values are too coarse.
_FEWEST_RESAMPLES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """What to measure, after all checks."""

    data: SearchData
    groups: list[str] | None
    places: NDArray[np.intp]
    qrels: list[dict[int, float]] | None
    widths: list[list[int]]
    dtypes: tuple[DType, ...]
    notes: list[str]


def sweep(
    embedder: Embedder | Sequence[Embedder],
    data: SearchData | Collection | str | Path,
    *,
    widths: Sequence[int] | None = None,
    dtypes: Sequence[DType] | None = None,
    rescore: bool = True,
    tolerance: float = 0.02,
    confidence: float = 0.95,
    group_by: str | None = None,
    references: bool = True,
    funnel: bool = True,
    rescore_depth: int = 100,
    resamples: int = 10_000,
    seed: int = 0,
    progress: bool = False,
) -> Outcome:
    """Measures what each width and type of vectors loses on these texts, and says which is the smallest that is enough.

    The texts are embedded once, at the full width. Narrower and quantized vectors are made from those, here. If the
    embedder has a cache, nothing is paid for twice, and an interrupted sweep resumes where it stopped. It takes the
    memory of two matrices of all documents, and little more.

    Documents are shuffled first, so that ties favour none of them. If the queries have judgements, the loss is in
    nDCG@10. If not, it is in the overlap of the top ten with the top ten at the full width: that is agreement, not
    quality. Queries without a relevant document are left out, and `notes` says how many.

    Args:
        embedder: One embedder, or several to compare. Their own `dimensions` do not matter.
        data: What `load` returns, a collection such as `docstrings()`, or a folder in BEIR's layout.
        widths: Widths to measure besides the full one. By default three quarters, a half, a quarter, and so on to 32.
        dtypes: Types to measure. By default float32, float16, int8 and binary.
        rescore: Whether to measure int8 and binary also with their best documents reranked by float32.
        tolerance: The largest acceptable loss, in points of the score: 0.02 is from 0.50 to 0.48.
        confidence: How sure it must be that the recommended size loses no more than that.
        group_by: A field of the queries that names their group, such as a language. Losses are then told by group too.
        references: Whether to compare with a PCA of these documents and with random rotations.
        funnel: Whether to measure two-stage searches.
        rescore_depth: How many documents are reranked.
        resamples: Permutations for each p-value.
        seed: The seed of everything random.
        progress: Whether to show progress bars on standard error. They need the extra `cli`.

    Returns:
        The outcome; `outcome.models[0].recommendation` is the advice for the first embedder.

    Raises:
        ConfigurationError: If an argument is out of range, or there are too few documents or queries.
        InputError: If a folder cannot be read, a query lacks the field `group_by`, or a text cannot be embedded.
        DimensionsError: If a model must not be cut to one of the widths.
        ProviderError: If a provider failed or refused for good.
    """
    embedders = [embedder] if isinstance(embedder, Embedder) else list(embedder)
    for each in embedders:
        if not isinstance(each, Embedder):
            raise ConfigurationError(f"sweep takes an Embedder or several, not {type(each).__name__}: Embedder(model).")
    if not isinstance(data, SearchData):
        data = SearchData.of(data) if isinstance(data, Collection) else load(data)
    _check_numbers(tolerance, confidence, rescore_depth, resamples)
    task = _task(embedders, data, widths, dtypes, group_by, seed)
    rescored = [dtype for dtype in task.dtypes if dtype in RESCORED] if rescore else []
    settings = Settings(
        tolerance=float(tolerance),
        confidence=float(confidence),
        walks=len(task.dtypes) + len(rescored),
        resamples=resamples,
        seed=seed,
        rescore_depth=rescore_depth,
    )
    facts = DataSet(
        name=data.name,
        documents=len(data.documents),
        queries=len(task.data.queries),
        judged=task.qrels is not None,
        measure="overlap@10" if task.qrels is None else "ndcg@10",
        group_by=group_by,
    )
    measured, outcomes = [], []
    for each, of_each in zip(embedders, task.widths, strict=True):
        embedded = embed_once(each, data.documents, task.places, task.data.queries, progress=progress)
        bar = progress_of(progress, of_each, "widths measured")
        try:
            found = measure(
                embedded,
                task.qrels,
                of_each,
                task.dtypes,
                rescore_depth=rescore_depth if rescore else None,
                references=references,
                funnel=funnel,
                seed=seed,
                tell=bar.tell,
            )
        finally:
            bar.close()
        if found.without_ranges:
            task.notes.append(
                f"int8 was not measured at {', '.join(map(str, found.without_ranges))} dimensions: fewer than "
                f"{MIN_SAMPLE} vectors of {each.model} differ there, and it takes its range from that many."
            )
        outcomes.append(model_outcome(found, facts, settings, task.data, task.groups))
        # The matrices may go: what is left to do is done with scores.
        measured.append((found.embedded.spec.address, found.sizes))
        del embedded, found
    return Outcome(
        data=facts,
        settings=settings,
        models=tuple(outcomes),
        comparisons=tuple(compare(measured, facts, settings)) if facts.judged else (),
        notes=tuple(task.notes),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(),
    )


def _task(
    embedders: Sequence[Embedder],
    data: SearchData,
    widths: Sequence[int] | None,
    dtypes: Sequence[DType] | None,
    group_by: str | None,
    seed: int,
) -> _Task:
    notes: list[str] = []
    addresses = [each.model for each in embedders]
    if not embedders or len(set(addresses)) < len(addresses):
        raise ConfigurationError("Give one embedder, or several of different models.")
    kept = _answered(data, notes)
    groups = None if group_by is None else groups_of(kept, group_by)
    if groups is not None and len(set(groups)) > _MOST_GROUPS:
        raise ConfigurationError(
            f"group_by={group_by!r} makes {len(set(groups)):,} groups. Take a field with {_MOST_GROUPS} or fewer."
        )
    if len(kept.queries) < 2 or len(data.documents) < 2:
        raise ConfigurationError(
            f"{data.name} has {len(data.documents)} documents, and {len(kept.queries)} queries that they answer: too "
            f"few to measure anything. {'Are the grades above 0?' if data.qrels else 'Give more.'}"
        )
    places = np.random.default_rng(seed).permutation(len(data.documents))
    qrels = (
        None
        if kept.qrels is None
        else [{int(places[document]): grade for document, grade in grades.items()} for grades in kept.qrels]
    )
    chosen = _types(dtypes, len(set(data.documents)), notes)
    of_each = [_widths(each.spec, widths, notes) for each in embedders]
    if any(dtype in PACKED for dtype in chosen):
        uneven = sorted({width for several in of_each for width in several if width % 8})
        if uneven:
            notes.append(
                f"Binary was not measured at {', '.join(map(str, uneven))} dimensions: it holds eight to a byte."
            )
    if kept.qrels is None:
        notes.append(
            "Nobody has judged which documents answer these queries. The scores say how far a search agrees with that "
            "at the full width, and not how good it is."
        )
    return _Task(kept, groups, places, qrels, of_each, chosen, notes)


def _answered(data: SearchData, notes: list[str]) -> SearchData:
    """The data with those queries that a document answers."""
    if data.qrels is None:
        return data
    keep = [place for place, grades in enumerate(data.qrels) if any(grade > 0 for grade in grades.values())]
    if len(keep) == len(data.queries):
        return data
    notes.append(
        f"{len(data.queries) - len(keep):,} of {len(data.queries):,} queries have no document that answers them, and "
        f"were left out."
    )
    return replace(
        data,
        query_ids=[data.query_ids[place] for place in keep],
        queries=[data.queries[place] for place in keep],
        qrels=[data.qrels[place] for place in keep],
        fields=[data.fields[place] for place in keep] if data.fields else [],
    )


def _types(dtypes: Sequence[DType] | None, documents: int, notes: list[str]) -> tuple[DType, ...]:
    """The types, float32 first: the others are compared with it."""
    for dtype in dtypes or ():
        if dtype not in get_args(DType):
            raise ConfigurationError(f"dtypes may have {', '.join(get_args(DType))}, not {dtype!r}.")
    chosen = dict.fromkeys(("float32", *(DTYPES if dtypes is None else dtypes)))
    scaled = [dtype for dtype in chosen if dtype in SCALED]
    if scaled and documents < MIN_SAMPLE:
        if dtypes is not None:
            raise ConfigurationError(
                f"{scaled[0]} takes its range from {MIN_SAMPLE} different documents or more, and there are "
                f"{documents}. Leave it out of dtypes."
            )
        notes.append(f"int8 was not measured: it takes its range from {MIN_SAMPLE} different documents or more.")
        del chosen["int8"]
    return tuple(chosen)


def _widths(spec: ModelSpec, widths: Sequence[int] | None, notes: list[str]) -> list[int]:
    """Widest first, the full one included."""
    native = spec.native_dimensions
    if widths is None:
        if not spec.matryoshka:
            notes.append(f"{spec.address} was not trained to be cut: it was measured at its full width only.")
            return [native]
        narrower = [native * 3 // 4, *(native >> halved for halved in range(1, native.bit_length()))]
        # In steps of eight, so that a bit for each fills its bytes.
        return [native, *(width // 8 * 8 for width in narrower if width >= _NARROWEST)]
    wider = sorted({width for width in widths if isinstance(width, int) and width > native})
    if wider:
        notes.append(f"{spec.address} has no {', '.join(map(str, wider))} dimensions: its full width is {native}.")
    return sorted({native, *(check_width(spec, width) for width in widths if width not in wider)}, reverse=True)


def _check_numbers(tolerance: float, confidence: float, rescore_depth: int, resamples: int) -> None:
    for name, value, low, high in (("tolerance", tolerance, 0.0, 1.0), ("confidence", confidence, 0.5, 1.0)):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not low < value < high:
            raise ConfigurationError(f"{name} must be a number between {low:g} and {high:g}, not {value!r}.")
    for name, whole, least in (("rescore_depth", rescore_depth, 1), ("resamples", resamples, _FEWEST_RESAMPLES)):
        if not is_width(whole) or whole < least:
            raise ConfigurationError(f"{name} must be a whole number from {least:,}, not {whole!r}.")
