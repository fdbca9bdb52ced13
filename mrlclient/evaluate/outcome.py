"""What a sweep found: plain values, which travel as JSON.

More than 300 lines, for most of them say what a value is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from mrlclient.evaluate._plain import from_plain, to_plain

#: Where the loss of a size lies: surely within the tolerance, surely beyond it, or the queries are too few to tell.
Verdict = Literal["within", "beyond", "undecided"]

#: The version of the JSON.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class DataSet:
    """What was searched.

    Attributes:
        name: What the texts are.
        documents: How many are searched.
        queries: How many count: those with an answer among the documents.
        judged: Whether it is known which documents answer a query. If not, the scores say how far a ranking agrees
            with that of the full width, which is not how good it is.
        measure: The score that the losses are of: `"ndcg@10"`, or `"overlap@10"` without judgements.
        group_by: The field of the queries that names their group, if they have one.
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
        tolerance: The loss of `measure` that is still good enough, absolute: 0.02 is from 0.50 to 0.48.
        confidence: That the recommended size loses no more than that.
        walks: Types that were walked down, each with its share of the doubt: with 4 and a confidence of 0.95, a size
            is `"within"` at 1 - 0.05 / 4.
        resamples: Permutations, for each p-value.
        seed: Of their random numbers.
        rescore_depth: Documents on the shortlist that is put in order again by float32, where a point is rescored.
        hurt: The loss from which a query counts as hurt.
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
    """A mean loss, in points of the score: 0.01 is from 0.50 to 0.49, and less than nothing is a gain.

    Attributes:
        mean: Over the queries.
        low: Lower end of its two-sided 95 % confidence interval, paired.
        high: Upper end.
        p_value: Of a two-sided sign-flip permutation test that nothing is lost or gained.
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
        queries: How many are in it.
        base: Their score at the full width: where it is poor there is little to lose.
        loss: Of their scores.
        p_value: That it loses no more than all the others do: one-sided, permuted, Holm-corrected over the groups.
        worse: Whether that is below 0.05.
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
        id: Its name in the data set.
        before: Its score at the full width.
        after: Its score at the point.
        text: The text, for a report of the user's own; None where it was left out.
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
        rescored: Whether the best by these numbers were put in order again by float32 of the same width.
        scores: By name, each a mean over the queries: ndcg@10, recall@10, recall@100, mrr@10; or overlap@10 and
            overlap@100.
        loss: Of the data set's `measure`, against the full width in float32.
        bound: The loss is below this with the confidence of one walk; `"within"` is a bound of the tolerance or less.
        verdict: Where the loss lies.
        hurt: Share of the queries that lose more than `settings.hurt`, 0 to 1.
        bytes_per_vector: What is searched.
        bytes_total: For all documents.
        rescore_bytes_per_vector: What is kept beside it to rescore with, on a disk perhaps; 0 where nothing is.
        milliseconds: Of an exact search for one query in numpy on this machine, the median of several; None where it
            was not measured.
        groups: By name; empty without `group_by`.
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
    """What another way to make vectors narrow would give, in float32. Not to choose from, but to compare with.

    Attributes:
        name: `"pca"`, fitted on these very documents, or `"rotation"`, the mean over random ones.
        dimensions: The width.
        scores: As of a `Point`.
        loss: Against the full width, as of a `Point`.
    """

    name: Literal["pca", "rotation"]
    dimensions: int
    scores: Mapping[str, float]
    loss: Loss


@dataclass(frozen=True, slots=True)
class FunnelSetting:
    """A search in two stages, in float32: a shortlist by few dimensions, put in order by all of them.

    Attributes:
        shortlist_dimensions: Width of the first stage.
        depth: Documents on the shortlist.
        scores: As of a `Point`. Nothing beyond the shortlist is found.
        loss: Against an exact search at the full width.
        shortlist_bytes: Of the first stage, all documents: what every query goes through.
        rescore_bytes: Of the full vectors that are kept for the second stage; `depth` of them are read for a query.
        cost: Bytes read for a query, as a share of those that an exact search reads.
        milliseconds: For one query in numpy on this machine, the median of several; None where it was not measured.
        exact_milliseconds: Likewise of an exact search at the full width, in turns with it.
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
        seconds: Wall clock.
        tokens: That the provider counted; None where it did not say.
        usd: Their price; None where it is unknown.
        cached_texts: Texts that were not paid for, because they stood in a cache.
        saved_usd: What those had cost.
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
        kind: `"smaller"`; `"full"`, where every smaller size is known to lose too much, or cannot be told not to; or
            `"not enough evidence"`, where there are too few queries to say anything, and no size is named.
        reasons: Sentences for people.
        dimensions: The width.
        dtype: The type.
        rescored: Whether the best are put in order again by float32.
        queries_needed: Queries that would do to tell whether the next smaller size is good enough, about, at a power of
            80 %; None where it is known, or where more would not help.
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
        native_dimensions: Its full width, against which all is compared.
        matryoshka: Whether it may be cut. If not, it is measured at its full width only.
        smallest_evaluated: The narrowest width that its authors evaluated, if they say.
        embedding: What it took to embed everything.
        points: Type by type, the widest first. The first is the full width in float32.
        references: Other ways to make the vectors narrow, way by way, the widest first.
        funnel: Searches in two stages.
        recommendation: What to take.
        revision: The commit of the model's files; None where it is not known, as of a hosted one.
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
        bytes_per_vector: Of both.
        first: The address of the one model, `first_point` its place in that model's `points`.
        first_point: See `first`.
        second: The address of the other.
        second_point: See `second`.
        difference: What is lost by taking the second instead of the first.
    """

    bytes_per_vector: int
    first: str
    first_point: int
    second: str
    second_point: int
    difference: Loss


@dataclass(frozen=True, slots=True)
class Environment:
    """What an outcome was made by.

    Attributes:
        mrlclient: The version of this package; None where it ran from its sources.
        python: Implementation and version.
        numpy: Its version.
        platform: The system, as `platform.platform()` has it.
        processor: Its name.
        cores: How many there are.
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
        models: One or several.
        comparisons: Every two models at equal bytes, the largest size first.
        notes: What whoever reads the figures has to know, in sentences.
        made: When it was done, such as `"2026-11-24T16:05:12+00:00"`, in UTC.
        environment: What it was made by; None where that is not known.
    """

    data: DataSet
    settings: Settings
    models: tuple[ModelOutcome, ...]
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    made: str = ""
    environment: Environment | None = None

    def to_dict(self, *, texts: bool = False) -> dict[str, Any]:
        """Plain values, as JSON has them.

        Args:
            texts: Also the texts of the queries that lose most.
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
        """What `to_dict` wrote.

        Raises:
            ConfigurationError: If it is nothing that this version can read; the message says where.
        """
        return from_plain(cls, values, FORMAT)
