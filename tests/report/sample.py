"""A sweep's outcome with everything in it, made of plain formulas."""

from __future__ import annotations

from dataclasses import replace

from mrlclient.evaluate.outcome import (
    Comparison,
    DataSet,
    Environment,
    FunnelSetting,
    Group,
    Loss,
    ModelOutcome,
    Outcome,
    Pass,
    Point,
    Query,
    Recommendation,
    Reference,
    Settings,
)

FULL = 0.642
#: Bytes of a number, bytes of a vector besides its numbers, and what the type itself loses.
TYPES = {
    ("float32", False): (4, 0, 0.0),
    ("float16", False): (2, 0, 0.0),
    ("int8", False): (1, 4, 0.001),
    ("binary", False): (0.125, 0, 0.075),
    ("binary", True): (0.125, 0, 0.006),
}
WIDTHS = (256, 128, 64, 32)
LANGUAGES = ("English", "Deutsch", "العربية", "Română", "中文")


def loss(mean: float, spread: float = 0.008) -> Loss:
    return Loss(mean, mean - spread, mean + spread, 0.0001 if mean > spread else 0.4)


def by_width(width: int) -> float:
    """What a width loses."""
    return 0.9 * (1 / width - 1 / 256)


def scores(lost: float) -> dict[str, float]:
    return {"ndcg@10": FULL - lost, "recall@10": 0.81 - lost, "recall@100": 0.94 - lost / 3, "mrr@10": 0.6 - lost}


def groups(lost: float) -> tuple[Group, ...]:
    return tuple(
        Group(
            name=name,
            queries=100,
            base=FULL + 0.15 - 0.06 * place,
            loss=loss(lost * (0.4 + 0.25 * place) + 0.001, 0.012),
            p_value=0.004 if place == 3 else 0.6,
            worse=place == 3,
        )
        for place, name in enumerate(LANGUAGES)
    )


def point(width: int, kind: tuple[str, bool]) -> Point:
    of_number, besides, of_type = TYPES[kind]
    lost = by_width(width) + of_type
    each = int(width * of_number) + besides
    within = lost + 0.007 <= 0.02
    return Point(
        dimensions=width,
        dtype=kind[0],
        rescored=kind[1],
        scores=scores(lost),
        loss=loss(lost) if lost else Loss(0.0, 0.0, 0.0, 1.0),
        bound=lost + 0.007,
        verdict="within" if within else "undecided" if lost < 0.03 else "beyond",
        hurt=min(1.0, lost * 4),
        bytes_per_vector=each,
        bytes_total=each * 5183,
        rescore_bytes_per_vector=width * 4 if kind[1] else 0,
        milliseconds=each / 400,
        groups=groups(lost) if kind == ("int8", False) else (),
        worst=tuple(
            Query(f"q{n}", 1.0 - 0.05 * n, 0.3 - 0.06 * n, f"What does the {n}th of these questions ask about?")
            for n in range(5)
        ),
    )


def model(address: str = "wordllama:l2-supercat-256") -> ModelOutcome:
    return ModelOutcome(
        address=address,
        native_dimensions=256,
        matryoshka=True,
        smallest_evaluated=64,
        embedding=Pass(seconds=6.21, tokens=412_345, usd=0.0536, cached_texts=120, saved_usd=0.002),
        points=tuple(point(width, kind) for kind in TYPES for width in WIDTHS),
        references=tuple(
            Reference(name, width, scores(by_width(width) * factor), loss(by_width(width) * factor))
            for name, factor in (("pca", 0.6), ("rotation", 1.5))
            for width in WIDTHS[1:]
        ),
        funnel=tuple(
            FunnelSetting(
                width,
                depth,
                scores(0.6 / depth * 64 / width),
                loss(0.6 / depth * 64 / width, 0.003),
                shortlist_bytes=5183 * width * 4,
                rescore_bytes=5183 * 1024,
                cost=width / 256 + depth / 5183,
                milliseconds=width / 80,
                exact_milliseconds=3.21,
            )
            for width in (32, 64, 128)
            for depth in (20, 50, 100, 200)
        ),
        recommendation=Recommendation(
            "smaller",
            ("128 × int8 loses less than the tolerance.", "64 × int8, the next smaller one, cannot be told from it."),
            128,
            "int8",
            queries_needed=900,
        ),
        revision="0123abc",
    )


def outcome() -> Outcome:
    return Outcome(
        data=DataSet("SciFact & friends", 5183, 800, judged=True, measure="ndcg@10", group_by="language"),
        settings=Settings(0.02, 0.95, walks=5, resamples=10_000, seed=7, rescore_depth=100),
        models=(model(),),
        notes=("Two queries without an answer were left out.",),
        made="2026-11-24T16:05:12+00:00",
        environment=Environment("0.1.0", "CPython 3.11.7", "2.4.6", "Linux-6.8-x86_64", "Some Processor", 2),
    )


def two_models() -> Outcome:
    one, other = model(), model("openai:text-embedding-3-small")
    other = replace(
        other,
        points=tuple(
            replace(each, scores={name: score - 0.03 for name, score in each.scores.items()}) for each in other.points
        ),
        recommendation=Recommendation("not enough evidence", ("There are 31 queries.",), queries_needed=140),
    )
    return replace(
        outcome(),
        models=(one, other),
        comparisons=(
            Comparison(1024, one.address, 0, other.address, 0, loss(0.03)),
            Comparison(260, one.address, 8, other.address, 8, loss(0.001)),
        ),
    )


def name(point: Point) -> str:
    return f"{point.dimensions} × {point.dtype}{', rescored' if point.rescored else ''}"


def by_name(outcome: Outcome, wanted: str) -> Point:
    return next(point for point in outcome.models[0].points if name(point) == wanted)


def undecided() -> Outcome:
    """Few queries, nobody knows their answers, and nothing of what may be left out."""
    data = DataSet("Two dozen", 400, 24, judged=False, measure="overlap@10")
    points = tuple(
        replace(point, scores={"overlap@10": 1 - point.loss.mean}, groups=(), worst=(), milliseconds=None)
        for point in model().points
    )
    return replace(
        outcome(),
        data=data,
        models=(
            replace(
                model(),
                smallest_evaluated=None,
                embedding=Pass(1.0, None, None),
                points=points,
                references=(),
                funnel=(),
                recommendation=Recommendation("not enough evidence", ("24 queries are fewer than 50.",)),
            ),
        ),
        notes=(),
        made="",
        environment=None,
    )


def full() -> Outcome:
    return replace(
        outcome(),
        models=(
            replace(model(), recommendation=Recommendation("full", ("Every smaller size loses.",), 256, "float32")),
        ),
    )


def fixed_width() -> Outcome:
    """A model that may not be cut, at one size only."""
    only = replace(model(), matryoshka=False, points=model().points[:1], references=(), funnel=())
    return replace(outcome(), models=(replace(only, recommendation=Recommendation("full", (), 256, "float32")),))


def without_worse_groups() -> ModelOutcome:
    return replace(
        model(),
        points=tuple(
            replace(point, groups=tuple(replace(group, worse=False) for group in point.groups))
            for point in model().points
        ),
    )


MARKUP = (
    "</script></style></title><img src=x onerror=alert(1)><script>alert(2)</script>\" onmouseover='alert(3)' {{ 7*7 }}"
)
LONG = "wordwithoutanyend" * 600
RTL = "\u202eمرحبا <b>بالعالم</b>\u202c"


def hostile() -> Outcome:
    """Every text that comes from outside is one that means harm."""
    texts = [MARKUP, LONG, RTL, "nul \x00 and half \ud83d", "", "two\nlines\u2028and\tmore"]

    def hurt(point: Point) -> Point:
        return replace(
            point,
            groups=tuple(
                replace(group, name=text or "-", worse=text == MARKUP)
                for group, text in zip(point.groups, texts, strict=False)
            ),
            worst=tuple(Query(MARKUP + str(place), 0.9, 0.1, text) for place, text in enumerate(texts)),
        )

    harmed = replace(
        model(MARKUP),
        points=tuple(map(hurt, model().points)),
        recommendation=replace(model().recommendation, reasons=(MARKUP, LONG)),
    )
    return replace(
        outcome(),
        data=replace(outcome().data, name=MARKUP + LONG, group_by=LONG),
        models=(harmed, replace(harmed, address=LONG)),
        notes=(MARKUP, RTL),
        comparisons=(Comparison(1024, MARKUP, 0, LONG, 0, loss(0.03)),),
    )
