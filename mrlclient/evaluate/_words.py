"""The figures of a sweep in words."""

from __future__ import annotations

from mrlclient.evaluate.outcome import Comparison, Loss, ModelOutcome, Outcome, Point, Verdict

_MINUS = "\N{MINUS SIGN}"

_MEASURES = {"ndcg": "nDCG", "mrr": "MRR", "recall": "recall", "overlap": "overlap"}

REFERENCES = {"pca": "PCA fitted on these documents", "rotation": "Random rotation"}

VERDICTS: dict[Verdict, str] = {
    "within": "within the tolerance",
    "beyond": "beyond the tolerance",
    "undecided": "cannot be told",
}


def number(value: float, digits: int = 3) -> str:
    """A score, with a real minus, and none before nothing."""
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", _MINUS)


def percent(share: float) -> str:
    """A share: whole where it can be, and never 0 % or 100 % for what is neither."""
    digits = 1 if 0 < share < 0.01 or 0.99 < share < 1 else 0
    return f"{100 * share:.{digits}f} %"


def confidence(share: float) -> str:
    """A confidence: never rounded."""
    return f"{100 * share:.10g} %"


def moment(made: str) -> str:
    """A time in UTC, as `Outcome.made` has it: "2026-11-24 16:05 UTC"."""
    return f"{made[:10]} {made[11:16]} UTC" if len(made) > 10 else made


def interval(loss: Loss) -> str:
    """The 95 % confidence interval."""
    return f"{number(loss.low)} to {number(loss.high)}"


def loses(mean: float) -> str:
    """What is lost, or gained."""
    shown = number(abs(mean))
    if shown == "0.000":
        return "loses nothing"
    return f"{'loses' if mean > 0 else 'gains'} {shown}"


def p_value(value: float) -> str:
    """A p-value: three digits."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def size_of_bytes(count: int) -> str:
    """Bytes, in the largest unit that leaves a digit before the point."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"


def measure(name: str) -> str:
    """A score's name as it is written in papers: nDCG@10."""
    kind, at, depth = name.partition("@")
    return f"{_MEASURES.get(kind, kind)}{at}{depth}"


def kind(dtype: str, rescored: bool) -> str:
    """A type of numbers: "binary, rescored"."""
    return f"{dtype}, rescored" if rescored else dtype


def size(point: Point) -> str:
    """A size: "128 × int8"."""
    return f"{point.dimensions:,} × {kind(point.dtype, point.rescored)}"


def headline(model: ModelOutcome) -> str:
    """The verdict in a few words."""
    point = model.recommended
    if point is None:
        return "Not enough evidence"
    if model.recommendation.kind == "full":
        return f"Keep all {point.dimensions:,} dimensions as {kind(point.dtype, point.rescored)}"
    comma = "," if point.rescored else ""
    return f"{point.dimensions:,} dimensions as {kind(point.dtype, point.rescored)}{comma} are enough"


def summary(model: ModelOutcome, outcome: Outcome) -> str:
    """What the verdict comes to, in a sentence or two; nothing where there is no verdict."""
    point, full = model.recommended, model.full
    tolerance = f"{outcome.settings.tolerance:g} of {measure(outcome.data.measure)}"
    if point is None:
        return ""
    if model.recommendation.kind == "full":
        return f"No smaller size is shown to lose no more than {tolerance}."
    sizes = f"{point.bytes_per_vector:,} bytes a vector instead of {full.bytes_per_vector:,}"
    saved = percent(1 - point.bytes_per_vector / full.bytes_per_vector)
    sure = confidence(outcome.settings.confidence)
    return f"{sizes}: {saved} less to search. With {sure} confidence it loses no more than {tolerance}."


def compared(comparison: Comparison) -> str:
    """What a comparison says."""
    if comparison.difference.low > 0:
        return f"{comparison.first} is better"
    if comparison.difference.high < 0:
        return f"{comparison.second} is better"
    return "no difference that these queries can tell"
