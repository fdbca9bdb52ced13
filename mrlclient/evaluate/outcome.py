"""What a sweep found: plain values that can be written as JSON.

The file has more than 300 lines because most of them document a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from mrlclient.evaluate._plain import from_plain, to_plain

#: Whether the loss of a size is surely within the tolerance, surely beyond it, or the queries are too few to tell.
Verdict = Literal["within", "beyond", "undecided"]

#: The version of the JSON.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class DataSet:
    """What was searched.

    Attributes:
        name: What the texts are.
        documents: How many documents are searched.
        queries: How many queries count: those with a relevant document.
        judged: Whether there are relevance judgements. If not, the scores tell how far a ranking agrees with the one
            at the full width, not how good it is.
        measure: The score whose loss is told: `"ndcg@10"`, or `"overlap@10"` without judgements.
        group_by: The field of the queries that names their group; None without groups.
    """

    name: str
    documents: int
    queries: int
    judged: bool
    measure: str
    group_by: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How it was measured.

    Attributes:
        tolerance: The largest acceptable loss of `measure`, absolute: 0.02 is from 0.50 to 0.48.
        confidence: How sure it is that the recommended size loses no more than that.
        walks: Types whose widths were tested, one after the other, from the widest down. They share the chance of an
            error: with 4 of them and a confidence of 0.95, each is tested at 1 - 0.05 / 4.
        resamples: Permutations for each p-value.
        seed: The seed of the permutations.
        rescore_depth: Documents that are reranked by float32, where a point is rescored.
        hurt: A query that loses more than this counts as hurt.
    """

    tolerance: float
    confidence: float
    walks: int
    resamples: int
    seed: int
    rescore_depth: int
    hurt: float = 0.1


@dataclass(frozen=True, slots=True)
class Loss:
    """A mean loss, in points of the score: 0.01 is from 0.50 to 0.49. A negative loss is a gain.

    Attributes:
        mean: The mean over the queries.
        low: Lower end of its two-sided 95 % confidence interval, from paired differences.
        high: Upper end of the interval.
        p_value: Of a two-sided sign-flip permutation test; the null hypothesis is no loss and no gain.
    """

    mean: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Group:
    """What one group of queries loses at a point.

    Attributes:
        name: The value of the field `group_by`.
        queries: How many queries are in it.
        base: Their mean score at the full width. If it is low, there is little to lose.
        loss: Their loss.
        p_value: Of a one-sided permutation test against the other queries, Holm-corrected over the groups; the null
            hypothesis is that the group loses no more than they do.
        worse: Whether the p-value is below 0.05.
    """

    name: str
    queries: int
    base: float
    loss: Loss
    p_value: float
    worse: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A query that loses much at a point.

    Attributes:
        id: Its id in the data set.
        before: Its score at the full width.
        after: Its score at the point.
        text: Its text; None if texts were left out of the JSON.
    """

    id: str
    before: float
    after: float
    text: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Point:
    """One size of the vectors.

    Attributes:
        dimensions: The width.
        dtype: The type of the stored numbers.
        rescored: Whether the best documents were reranked by float32 vectors of the same width.
        scores: Mean scores over the queries, by name: ndcg@10, recall@10, recall@100 and mrr@10; or overlap@10 and
            overlap@100.
        loss: The loss of the data set's `measure`, against the full width in float32.
        bound: Upper confidence bound of the loss. The verdict is `"within"` only if it is at most the tolerance.
        verdict: How the loss compares with the tolerance.
        hurt: Share of the queries that lose more than `settings.hurt`, 0 to 1.
        bytes_per_vector: Bytes of one vector in the index that is searched.
        bytes_total: The same for all documents.
        rescore_bytes_per_vector: Bytes kept besides, perhaps on disk, to rescore with; 0 without rescoring.
        milliseconds: Median time of an exact search for one query, in numpy on this machine; None if not measured.
        groups: The groups of queries, in the order of their names; empty without `group_by`.
        worst: The queries that lose most, the worst first.
    """

    dimensions: int
    dtype: str
    rescored: bool
    scores: Mapping[str, float]
    loss: Loss
    bound: float
    verdict: Verdict
    hurt: float
    bytes_per_vector: int
    bytes_total: int
    rescore_bytes_per_vector: int = 0
    milliseconds: float | None = None
    groups: tuple[Group, ...] = ()
    worst: tuple[Query, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """What another way of reducing dimensions gives, in float32: a baseline, not a choice.

    Attributes:
        name: `"pca"`, fitted on these very documents, or `"rotation"`, the mean over random rotations.
        dimensions: The width.
        scores: As for a `Point`.
        loss: As for a `Point`.
    """

    name: Literal["pca", "rotation"]
    dimensions: int
    scores: Mapping[str, float]
    loss: Loss


@dataclass(frozen=True, slots=True)
class FunnelSetting:
    """A two-stage search in float32: a shortlist by few dimensions, reranked by all of them.

    Attributes:
        shortlist_dimensions: Width of the first stage.
        depth: Documents on the shortlist.
        scores: As for a `Point`. Documents that are not on the shortlist are never found.
        loss: The loss against an exact search at the full width.
        shortlist_bytes: Bytes of all vectors of the first stage: every query reads them.
        rescore_bytes: Bytes of the full vectors that are kept for the second stage. A query reads `depth` of them.
        cost: Bytes read for a query, as a share of what an exact search reads.
        milliseconds: Median time for one query, in numpy on this machine; None if not measured.
        exact_milliseconds: The same for an exact search at the full width, measured alternately.
    """

    shortlist_dimensions: int
    depth: int
    scores: Mapping[str, float]
    loss: Loss
    shortlist_bytes: int
    rescore_bytes: int
    cost: float
    milliseconds: float | None = None
    exact_milliseconds: float | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """What it took to embed everything once.

    Attributes:
        seconds: Wall-clock time.
        tokens: Tokens that the provider counted; None if it did not say.
        usd: Their price; None if it is unknown.
        cached_texts: Texts that came from a cache and cost nothing.
        saved_usd: What those had cost before.
    """

    seconds: float
    tokens: int | None
    usd: float | None
    cached_texts: int = 0
    saved_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The smallest size that is good enough, and why.

    Attributes:
        kind: `"smaller"`; `"full"`, if every smaller size loses too much, or more queries would not show otherwise; or
            `"not enough evidence"`, if the queries are too few to tell: then no size is named.
        reasons: The reasons, in sentences.
        dimensions: The width.
        dtype: The type.
        rescored: Whether the best documents are reranked by float32.
        queries_needed: About how many queries would tell whether the next smaller size is good enough, at a power of
            80 %; None if that is known, or if more queries would not help.
    """

    kind: Literal["smaller", "full", "not enough evidence"]
    reasons: tuple[str, ...]
    dimensions: int | None = None
    dtype: str | None = None
    rescored: bool = False
    queries_needed: int | None = None


@dataclass(frozen=True, slots=True)
class ModelOutcome:
    """What one model does.

    Attributes:
        address: `provider:name`.
        native_dimensions: Its full width, with which everything is compared.
        matryoshka: Whether it may be cut. If not, only the full width is measured.
        smallest_evaluated: The narrowest width that its authors evaluated; None if unknown.
        embedding: What it took to embed everything.
        points: The sizes that were measured, type by type, the widest first. The first is the full width in float32.
        references: Other ways of reducing dimensions, way by way, the widest first.
        funnel: Two-stage searches.
        recommendation: Which size to choose.
        revision: The commit of the model's files; None if it is not known, as for a hosted model.
    """

    address: str
    native_dimensions: int
    matryoshka: bool
    smallest_evaluated: int | None
    embedding: Pass
    points: tuple[Point, ...]
    references: tuple[Reference, ...]
    funnel: tuple[FunnelSetting, ...]
    recommendation: Recommendation
    revision: str | None = None

    @property
    def full(self) -> Point:
        """The full width in float32."""
        return self.points[0]

    @property
    def recommended(self) -> Point | None:
        """The point that is recommended; None where there is not enough evidence."""
        advice = self.recommendation
        wanted = (advice.dimensions, advice.dtype, advice.rescored)
        return next((point for point in self.points if (point.dimensions, point.dtype, point.rescored) == wanted), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models at equal bytes a vector, each at its best point of that size.

    Attributes:
        bytes_per_vector: The size of a vector of either.
        first: The address of the first model.
        first_point: Index into that model's `points`.
        second: The address of the second model.
        second_point: Index into that model's `points`.
        difference: The loss of the second model against the first.
    """

    bytes_per_vector: int
    first: str
    first_point: int
    second: str
    second_point: int
    difference: Loss


@dataclass(frozen=True, slots=True)
class Environment:
    """The software and the machine that made an outcome.

    Attributes:
        mrlclient: The version of this package; None if it is not installed.
        python: Implementation and version.
        numpy: Its version.
        platform: The system, as `platform.platform()` gives it.
        processor: The name of the processor.
        cores: The number of cores.
    """

    mrlclient: str | None
    python: str
    numpy: str
    platform: str
    processor: str
    cores: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sweep found.

    Attributes:
        data: What was searched.
        settings: How it was measured.
        models: What was found for each model.
        comparisons: Every two models at equal bytes, the largest size first.
        notes: What a reader of the figures must know, in sentences.
        made: When it was made, in UTC, such as `"2026-11-24T16:05:12+00:00"`.
        environment: The software and the machine; None if unknown.
    """

    data: DataSet
    settings: Settings
    models: tuple[ModelOutcome, ...]
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    made: str = ""
    environment: Environment | None = None

    def to_dict(self, *, texts: bool = False) -> dict[str, Any]:
        """The outcome as plain values, ready for JSON.

        Args:
            texts: Whether to include the texts of the queries that lose most.
        """
        plain: dict[str, Any] = {"format": FORMAT, **to_plain(self)}
        if not texts:
            for model in plain["models"]:
                for point in model["points"]:
                    for query in point["worst"]:
                        query["text"] = None
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The outcome that `to_dict` wrote.

        Raises:
            ConfigurationError: If this version cannot read it; the message says where.
        """
        return from_plain(cls, values, FORMAT)
