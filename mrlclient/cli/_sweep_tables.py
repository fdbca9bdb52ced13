"""A sweep's outcome in the terminal."""

from __future__ import annotations

from textwrap import fill

import typer

from mrlclient.cli._console import console, table
from mrlclient.evaluate._front import first_that_failed
from mrlclient.evaluate._words import measure as written
from mrlclient.evaluate._words import percent, size_of_bytes
from mrlclient.evaluate.outcome import Loss, ModelOutcome, Outcome, Point

_WIDTH = 80
#: Queries that are named of a size.
_WORST = 5
_ENOUGH = {"within": "yes", "beyond": "no", "undecided": "open"}


def show(outcome: Outcome) -> None:
    """Prints what a person decides by."""
    measure = written(outcome.data.measure)
    for model in outcome.models:
        _show_model(outcome, model, measure)
    if outcome.comparisons:
        _show_comparisons(outcome, measure)
    for note in outcome.notes:
        _say(note)


def _show_model(outcome: Outcome, model: ModelOutcome, measure: str) -> None:
    cost = model.embedding
    _say(
        f"{model.address} on {outcome.data.name}: {outcome.data.documents:,} documents, "
        f"{outcome.data.queries:,} queries."
        + (f" {cost.tokens:,} tokens" if cost.tokens else "")
        + (f", {cost.usd:.4f} USD" if cost.usd else "")
        + ("." if cost.tokens else "")
        + (f" {cost.cached_texts:,} texts from the cache." if cost.cached_texts else "")
    )
    shown = table("type", "width", "bytes", measure, "loss", "95 % interval", "hurt", "ms", "enough")
    shown.columns[-1].justify = "left"
    shown.padding = 0
    previous = ""
    for point in model.points:
        kind = _kind(point)
        narrow = model.smallest_evaluated is not None and point.dimensions < model.smallest_evaluated
        shown.add_row(
            "" if kind == previous else kind,
            f"{'*' if narrow else ''}{point.dimensions}",
            f"{point.bytes_per_vector:,}",
            f"{point.scores[outcome.data.measure]:.3f}",
            f"{point.loss.mean:+z.3f}",
            _interval(point.loss),
            percent(point.hurt),
            _milliseconds(point.milliseconds),
            _ENOUGH[point.verdict] + (" ←" if point is model.recommended else ""),
        )
        previous = kind
    console().print(shown)
    if any(model.smallest_evaluated and point.dimensions < model.smallest_evaluated for point in model.points):
        _say(f"* narrower than the model's authors evaluated ({model.smallest_evaluated}).")
    advice = model.recommendation
    if advice.kind == "not enough evidence":
        typer.echo("Not enough evidence.")
    else:
        rescored = ", the best rescored with float32" if advice.rescored else ""
        typer.echo(f"Take {advice.dimensions} dimensions of {advice.dtype}{rescored}.")
    for reason in advice.reasons:
        typer.echo(fill(reason, _WIDTH, initial_indent="- ", subsequent_indent="  "))
    typer.echo()
    point = model.recommended or model.full
    if point.groups and point is not model.full:
        _show_groups(point)
    for looked in (point, first_that_failed(model, outcome.data.measure)):
        if looked is not None and looked.worst:
            _show_worst(looked, outcome)
    if model.funnel:
        _show_funnel(outcome, model, measure)


def _show_groups(point: Point) -> None:
    typer.echo(f"By group at {point.dimensions} dimensions of {_kind(point)}:")
    shown = table("group", "queries", "in full", "loss", "95 % interval", "p", "worse")
    for group in sorted(point.groups, key=lambda each: -each.loss.mean):
        shown.add_row(
            _short(group.name, 24),
            f"{group.queries:,}",
            f"{group.base:.3f}",
            f"{group.loss.mean:+z.3f}",
            _interval(group.loss),
            f"{group.p_value:.3f}",
            "yes" if group.worse else "",
        )
    console().print(shown)
    typer.echo()


def _show_worst(point: Point, outcome: Outcome) -> None:
    shown = point.worst[:_WORST]
    _say(
        f"{percent(point.hurt)} of the queries lose more than {outcome.settings.hurt:g} at {point.dimensions} "
        f"dimensions of {_kind(point)} (enough: {_ENOUGH[point.verdict]}). The worst hit, by name:"
    )
    worst = table("query", "in full", "here", "loss")
    for query in shown:
        worst.add_row(
            _short(query.id, 48), f"{query.before:.3f}", f"{query.after:.3f}", f"{query.before - query.after:+z.3f}"
        )
    console().print(worst)
    typer.echo()


def _show_funnel(outcome: Outcome, model: ModelOutcome, measure: str) -> None:
    _say(
        f"In two stages, float32: all documents by few dimensions, and the best of them by {model.native_dimensions}, "
        f"which are kept beside, {size_of_bytes(model.funnel[0].rescore_bytes)}:"
    )
    shown = table("width", "depth", measure, "loss", "95 % interval", "scanned", "read", "ms", "exact", left=0)
    shown.padding = 0
    for each in model.funnel:
        shown.add_row(
            str(each.shortlist_dimensions),
            str(each.depth),
            f"{each.scores[outcome.data.measure]:.3f}",
            f"{each.loss.mean:+z.3f}",
            _interval(each.loss),
            size_of_bytes(each.shortlist_bytes),
            percent(each.cost),
            _milliseconds(each.milliseconds),
            _milliseconds(each.exact_milliseconds),
        )
    console().print(shown)
    typer.echo()


def _show_comparisons(outcome: Outcome, measure: str) -> None:
    typer.echo(f"At equal bytes a vector, {measure} of the first less that of the second:")
    numbers = {model.address: place for place, model in enumerate(outcome.models, start=1)}
    for address, number in numbers.items():
        typer.echo(f"  {number}: {address}")
    shown = table("bytes", "first", "second", "diff", "95 % interval", "p", left=0)
    for each in outcome.comparisons:
        sides = []
        for address, place in ((each.first, each.first_point), (each.second, each.second_point)):
            point = outcome.models[numbers[address] - 1].points[place]
            sides.append(f"{numbers[address]}: {point.dimensions} {_kind(point)}")
        shown.add_row(
            f"{each.bytes_per_vector:,}",
            *sides,
            f"{each.difference.mean:+z.3f}",
            _interval(each.difference),
            f"{each.difference.p_value:.3f}",
        )
    console().print(shown)
    typer.echo()


def _kind(point: Point) -> str:
    return f"{point.dtype}+float32" if point.rescored else point.dtype


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _interval(loss: Loss) -> str:
    return f"{loss.low:+z.3f} {loss.high:+z.3f}"


def _say(text: str) -> None:
    typer.echo(fill(text, _WIDTH))
