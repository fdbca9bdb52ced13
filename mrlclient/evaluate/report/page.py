"""The page of a sweep."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrlclient.errors import missing_extra
from mrlclient.evaluate import _words as words
from mrlclient.evaluate._environment import version
from mrlclient.evaluate._front import first_that_failed, worth_a_look
from mrlclient.evaluate.outcome import ModelOutcome, Outcome, Point
from mrlclient.evaluate.report import strips, tables
from mrlclient.evaluate.report.chart import Chart, Picture, place
from mrlclient.evaluate.report.curves import funnel_chart, models_chart, quality_chart

if TYPE_CHECKING:
    from jinja2 import Template

_PACKAGE = "mrlclient.evaluate.report"

#: The sizes of a chart in pixels: the page shows the one that fits.
_SIZES = {"wide": (920.0, 430.0), "narrow": (330.0, 330.0)}

#: What no page may hold as it is: control characters, and halves of a pair of UTF-16.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class _Model:
    """A model with what the page shows of it.

    Attributes:
        outcome: What the sweep found.
        number: Its place, from 1: names on the page end in it.
        quality: The chart of scores and bytes.
        funnel: The chart of searches in two stages, if there are any.
        point: The size that groups are shown at, and queries first.
        looks: The sizes that queries can be shown at, the largest first.
    """

    outcome: ModelOutcome
    number: int
    quality: Chart
    funnel: Chart | None
    point: Point | None
    looks: tuple[Point, ...]


def html(outcome: Outcome) -> str:
    """A page about what a sweep found.

    The page is whole by itself: it has no script, and a content security policy that lets it load nothing. The texts of
    queries are in it where `outcome` has them.

    Args:
        outcome: What a sweep returned, or `Outcome.from_dict` read.

    Returns:
        The HTML.

    Raises:
        MissingExtraError: If Jinja is not installed: it comes with the extra `report`.
    """
    template = _template()
    models = [_shown(model, number, outcome) for number, model in enumerate(outcome.models, 1)]
    style = resources.files(_PACKAGE).joinpath("templates/style.css").read_text("utf-8")
    style += _choices(max(len(model.looks) for model in models))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return template.render(
        outcome=outcome,
        models=models,
        together=models_chart(outcome, "together") if len(outcome.models) > 1 else None,
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        made_by=" ".join(filter(None, ("mrlclient", version()))),
        pictures=_pictures,
        strips=strips,
        tables=tables,
        words=words,
    )


def write(outcome: Outcome, path: str | os.PathLike[str]) -> None:
    """Writes the page to a file.

    Args:
        outcome: As `html` takes it.
        path: The file; one that is there is replaced.

    Raises:
        MissingExtraError: If Jinja is not installed: it comes with the extra `report`.
        OSError: If the file cannot be written.
    """
    page = html(outcome)
    Path(path).write_text(page, encoding="utf-8", newline="\n")


def _shown(model: ModelOutcome, number: int, outcome: Outcome) -> _Model:
    return _Model(
        outcome=model,
        number=number,
        quality=quality_chart(model, outcome, f"quality-{number}"),
        funnel=funnel_chart(model, outcome, f"funnel-{number}") if model.funnel else None,
        point=_point_to_look_at(model, outcome.data.measure),
        looks=tuple(worth_a_look(model, outcome.data.measure)),
    )


def _point_to_look_at(model: ModelOutcome, score: str) -> Point | None:
    """The recommended size; where that is the full width, which loses nothing, the first that failed."""
    chosen = model.recommended
    if chosen is not None and chosen != model.full:
        return chosen
    return first_that_failed(model, score)


def _choices(most: int) -> str:
    """Style that shows of several blocks the one that is chosen in the list above them; in an old browser, all."""
    if not most:
        return ""
    chosen = ",".join(
        f".choice:has(option:nth-child({place}):checked) > .chosen:nth-of-type({place})" for place in range(1, most + 1)
    )
    rules = f".choice > .chosen {{ display: none }}\n  {chosen} {{ display: block }}"
    return f"@media screen {{ @supports selector(:has(*)) {{\n  {rules}\n}} }}\n"


def _pictures(chart: Chart) -> Iterable[tuple[str, Picture]]:
    return ((name, place(chart, *size)) for name, size in _SIZES.items())


def _template() -> Template:
    with suppress(ImportError):
        jinja: Any = import_module("jinja2")
        environment = jinja.Environment(
            loader=jinja.PackageLoader(_PACKAGE),
            autoescape=True,
            undefined=jinja.StrictUndefined,
            finalize=_printable,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        template: Template = environment.get_template("page.html.jinja")
        return template
    raise missing_extra("Jinja, which the report is made with,", "report")


def _printable(value: Any) -> Any:
    """A text with its control characters as the escapes that Python shows for them."""
    # What is marked as safe is made of expressions that came by here.
    if type(value) is str:
        return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], value)
    return value
