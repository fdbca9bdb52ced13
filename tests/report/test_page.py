"""The page as text, and the parts that need no browser."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient.evaluate import _words as words
from mrlclient.evaluate._front import first_that_failed, front, worth_a_look
from mrlclient.evaluate.outcome import Loss, Outcome
from mrlclient.evaluate.report import html, write
from mrlclient.evaluate.report.chart import Chart, Mark, Series, place, round_ticks
from mrlclient.evaluate.report.curves import quality_chart
from tests.report import sample

STYLE = resources.files("mrlclient.evaluate.report").joinpath("templates/style.css").read_text("utf-8")


class Reader(HTMLParser):
    """The rows of the tables, and what every tag says of itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] = []
        self._text: list[str] | None = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td", "caption"):
            self._text = []

    def handle_endtag(self, tag):
        if tag == "caption":
            self.tables["".join(self._text).strip()] = self._rows
        elif tag in ("th", "td"):
            self._rows[-1].append("".join(self._text).strip())

    def handle_data(self, data):
        if self._text is not None:
            self._text.append(data)


def test_every_figure_is_in_a_table():
    outcome = sample.outcome()
    (model,) = outcome.models
    tables = Reader(html(outcome)).tables
    sizes = tables["Every size of wordllama:l2-supercat-256"]
    assert len(sizes) == 1 + len(model.points)
    row = dict(zip(sizes[0], next(row for row in sizes if row[0] == "128 × int8"), strict=True))
    point = model.recommended
    assert row["Bytes a vector"] == "132"
    assert row["nDCG@10"] == f"{point.scores['ndcg@10']:.3f}"
    assert row["Loss of nDCG@10"] == f"{point.loss.mean:.3f}"
    assert row["95 % interval"] == words.interval(point.loss)
    assert row["Verdict"] == "within the tolerance"
    groups = tables["The groups at every size of wordllama:l2-supercat-256"]
    assert len(groups) == 1 + sum(len(point.groups) for point in model.points)
    assert [row[1] for row in groups if row[0] == "128 × int8" and row[-1] == "yes"] == ["Română"]
    worst = tables["The queries of wordllama:l2-supercat-256 that lose most at 128 × int8"]
    assert [row[1] for row in worst[1:]] == [query.id for query in point.worst]
    funnel = tables["Searches in two stages with wordllama:l2-supercat-256"]
    assert len(funnel) == 1 + len(model.funnel)
    (row,) = (dict(zip(funnel[0], row, strict=True)) for row in funnel if row[0] == "100 by 64")
    assert (row["Scanned"], row["Kept to rescore"], row["Bytes read"]) == ("1.33 MB", "5.31 MB", "27 %")
    assert (row["Search, ms"], row["Exact search, ms"]) == ("0.8", "3.21")
    assert len(tables["Other ways to make the vectors of wordllama:l2-supercat-256 narrow, as float32"]) == 1 + len(
        model.references
    )


def test_two_models_are_compared_at_equal_bytes():
    rows = Reader(html(sample.two_models())).tables["Equal bytes against equal bytes"]
    assert [(row[0], row[-1]) for row in rows[1:]] == [
        ("1,024", "wordllama:l2-supercat-256 is better"),
        ("260", "no difference that these queries can tell"),
    ]
    assert "openai:text-embedding-3-small, 256 × float32: 0.612" in rows[1]


@pytest.mark.parametrize("make", [sample.outcome, sample.two_models, sample.hostile, sample.fixed_width])
def test_nothing_runs_and_nothing_is_loaded(make):
    page = html(make())
    tags = Reader(page).tags
    assert {tag for tag, _ in tags} & {"script", "img", "link", "iframe", "object", "embed", "base", "form"} == set()
    for _, attributes in tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style", "srcset")]
        assert (attributes.get("href") or "#").startswith("#")
    (policy,) = (each["content"] for _, each in tags if each.get("http-equiv") == "Content-Security-Policy")
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style.startswith(STYLE)
    assert not re.search(r"url\(|@import|@font-face", style)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    identifiers = [each["id"] for _, each in tags if "id" in each]
    assert len(identifiers) == len(set(identifiers))


def test_the_style_asks_for_nothing():
    assert not re.search(r"url\(|@import|@font-face", STYLE)


def _colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*(#\w+);", block))


def _brightness(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    """As the WCAG have it."""
    dark, light = sorted((_brightness(one), _brightness(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_contrast(theme):
    roots = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    assert len(roots) == 3
    colours = _colours(roots[0]) | (_colours(roots[("light", "dark", "print").index(theme)]))
    for ground in ("page", "card"):
        for text in ("ink", "quiet", "link", "bad"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for line in [f"s{index}" for index in range(9)]:
            assert _contrast(colours[line], colours[ground]) >= 4.5, (line, ground)
    assert _contrast(colours["warn"], colours["warn-tint"]) >= 4.5
    assert _contrast(colours["ink"], colours["warn-tint"]) >= 4.5


def test_no_colour_is_named_outside_the_themes():
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert not re.search(r"#[0-9a-fA-F]{3,6}\b|rgb|hsl", rules)
    assert set(re.findall(r"var\(--([\w-]+)\)", rules)) <= set(_colours(STYLE))


def test_it_is_the_same_page_after_json():
    outcome = sample.two_models()
    assert html(Outcome.from_dict(outcome.to_dict(texts=True))) == html(outcome)
    assert html(outcome) == html(outcome)


def test_the_worst_hit_queries_of_every_size_worth_a_look():
    outcome = sample.outcome()
    (model,) = outcome.models
    looked = worth_a_look(model, "ndcg@10")
    assert {sample.name(point) for point in looked} >= {
        # The recommended size, its neighbours, and the next step down.
        *("128 × int8", "256 × int8", "64 × int8", "32 × int8"),
        *(sample.name(point) for point in front(model.points, "ndcg@10") if point != model.full),
    }
    assert first_that_failed(model, "ndcg@10") == sample.by_name(outcome, "32 × int8")
    page = html(outcome)
    tables = Reader(page).tables
    for point in looked:
        rows = tables[f"The queries of {model.address} that lose most at {sample.name(point)}"]
        assert [row[1] for row in rows[1:]] == [query.id for query in point.worst]
    options = re.findall(r"<option( selected)?>(.*?), (?:within|beyond|cannot)", page)
    assert [name for _, name in options] == [sample.name(point) for point in looked]
    assert [name for selected, name in options if selected] == ["128 × int8"]
    assert page.count(":checked) >") == len(looked)
    saved = Outcome.from_dict(outcome.to_dict())
    assert all(point.worst for point in saved.models[0].points)


def test_where_all_of_its_type_are_within_the_next_step_down_is_of_another():
    outcome = sample.outcome()
    advice = replace(outcome.models[0].recommendation, dimensions=32, dtype="float32")
    model = replace(outcome.models[0], recommendation=advice)
    failed = first_that_failed(model, "ndcg@10")
    assert failed is not None
    assert (failed.dtype, failed.dimensions) == ("float16", 32)


def test_without_a_recommendation_the_next_step_down_is_from_the_full_width():
    model = sample.undecided().models[0]
    failed = first_that_failed(model, "overlap@10")
    assert failed is not None
    assert failed.bytes_per_vector == max(
        point.bytes_per_vector
        for point in model.points
        if point.verdict != "within" and point.bytes_per_vector < model.full.bytes_per_vector
    )
    assert first_that_failed(sample.fixed_width().models[0], "ndcg@10") is None
    assert worth_a_look(sample.fixed_width().models[0], "ndcg@10") == []


def test_the_foot_says_what_made_it():
    page = html(sample.outcome())
    foot = page[page.index("<footer>") :]
    assert '<time datetime="2026-11-24T16:05:12+00:00">2026-11-24 16:05 UTC</time>' in foot
    for said in ("mrlclient 0.1.0", "CPython 3.11.7", "numpy 2.4.6", "Linux-6.8-x86_64, Some Processor, 2 cores"):
        assert said in foot
    assert "revision 0123abc" in page
    assert "Measured" not in html(sample.undecided())


def test_a_confidence_is_never_rounded():
    outcome = sample.outcome()
    page = html(replace(outcome, settings=replace(outcome.settings, confidence=0.975)))
    assert "With 97.5 % confidence" in page
    assert "98 %" not in page


def test_without_texts_the_names_stand_for_them():
    page = html(Outcome.from_dict(sample.outcome().to_dict()))
    assert "question" not in page
    assert "<bdi>q3</bdi>" in page


def test_write(tmp_path):
    path = tmp_path / "report.html"
    write(sample.hostile(), path)
    assert path.read_bytes().decode("utf-8") == html(sample.hostile())
    with pytest.raises(OSError, match="report"):
        write(sample.outcome(), tmp_path / "nowhere" / "report.html")


def test_without_jinja():
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from mrlclient import MissingExtraError\n"
        "from mrlclient.evaluate.report import html\n"
        "from tests.report.sample import outcome\n"
        "try: html(outcome())\n"
        "except MissingExtraError as error: print(error.extra, error)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.startswith("report Jinja")
    assert said.endswith("pip install 'mrlclient[report]'\n")


def test_what_is_rescored_is_said_so():
    outcome = sample.outcome()
    (model,) = outcome.models
    advice = replace(model.recommendation, dtype="binary", rescored=True)
    rescored = replace(outcome, models=(replace(model, recommendation=advice),))
    page = html(rescored)
    assert "128 dimensions as binary, rescored, are enough" in page
    assert "of 1,024; 512 more to rescore with" in page


def test_the_verdict_in_words():
    def says(outcome):
        return words.headline(outcome.models[0]), words.summary(outcome.models[0], outcome)

    assert says(sample.outcome()) == (
        "128 dimensions as int8 are enough",
        "132 bytes a vector instead of 1,024: 87 % less to search. With 95 % confidence it loses no more than 0.02 of "
        "nDCG@10.",
    )
    assert says(sample.full()) == (
        "Keep all 256 dimensions as float32",
        "No smaller size is shown to lose no more than 0.02 of nDCG@10.",
    )
    assert says(sample.undecided()) == ("Not enough evidence", "")
    assert "24 queries are fewer than 50." in html(sample.undecided())
    assert "not how good it is" in html(sample.undecided())


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (words.number(-0.0004), "0.000"),
        (words.number(-0.0126), "−0.013"),
        (words.percent(0.003), "0.3 %"),
        (words.percent(0.995), "99.5 %"),
        (words.percent(0.0), "0 %"),
        (words.percent(1.0), "100 %"),
        (words.loses(-0.01), "gains 0.010"),
        (words.loses(0.00004), "loses nothing"),
        (words.p_value(0.0001), "< 0.001"),
        (words.measure("mrr@10"), "MRR@10"),
        (words.size_of_bytes(999), "999 bytes"),
        (words.size_of_bytes(1_347_580), "1.35 MB"),
    ],
)
def test_words(said, wanted):
    assert said == wanted


def test_nothing_beats_the_front():
    points = sample.model().points
    best = front(points, "ndcg@10")
    assert best
    for point in points:
        beaten = any(
            other.bytes_per_vector <= point.bytes_per_vector and other.scores["ndcg@10"] >= point.scores["ndcg@10"]
            for other in best
        )
        assert beaten
    for one in best:
        assert not any(
            other.bytes_per_vector <= one.bytes_per_vector and other.scores["ndcg@10"] > one.scores["ndcg@10"]
            for other in points
        )


def test_lines_that_cover_each_other_are_named():
    outcome = sample.outcome()
    assert quality_chart(outcome.models[0], outcome, "c").covered == []
    model = outcome.models[0]
    twins = tuple(
        replace(point, rescored=True, rescore_bytes_per_vector=4) for point in model.points if point.dtype == "int8"
    )
    twice = replace(outcome, models=(replace(model, points=model.points + twins),))
    assert quality_chart(twice.models[0], twice, "c").covered == [("int8", "int8, rescored")]
    assert "<bdi>int8</bdi> and <bdi>int8, rescored</bdi> lie on each other." in html(twice)


scores = st.floats(-1, 1, allow_nan=False)


@given(scores, scores, st.integers(2, 12))
def test_ticks_enclose_the_values(one, other, count):
    low, high = sorted((one, other))
    ticks = round_ticks(low, high, count=count)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= count + 1
    steps = [after - before for before, after in pairwise(ticks)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)


@given(
    st.lists(st.tuples(st.floats(0.001, 1e6), scores, st.floats(0, 0.2)), min_size=1, max_size=20),
    st.sampled_from([(920.0, 430.0), (330.0, 330.0)]),
)
def test_every_mark_stands_in_the_plot(values, size):
    marks = tuple(Mark(x, y, y - spread, y + spread, "") for x, y, spread in values)
    chart = Chart("c", "t", "d", "x", "y", ((1.0, "1"),), (Series("s", "s1", marks),), band=(-2.0, 2.0))
    picture = place(chart, *size)
    (line,) = picture.lines
    for (x, y, _), mark in zip(values, line.marks, strict=True):
        assert picture.left <= mark.x <= picture.right
        assert picture.top - 0.1 <= mark.high <= mark.y + 0.01 <= mark.low + 0.02 <= picture.bottom + 0.12
        for (other_x, other_y, _), other in zip(values, line.marks, strict=True):
            assert x >= other_x or mark.x <= other.x
            assert y <= other_y or mark.y <= other.y
    assert picture.band == (picture.top, picture.bottom)


def test_a_loss_that_is_a_gain():
    outcome = sample.outcome()
    (model,) = outcome.models
    better = replace(
        model.points[1], scores={**model.points[1].scores, "ndcg@10": 0.7}, loss=Loss(-0.058, -0.06, -0.05, 0)
    )
    page = html(replace(outcome, models=(replace(model, points=(model.points[0], better, *model.points[2:])),)))
    assert "128 × float32, within the tolerance: 0.700, gains 0.058 (−0.060 to −0.050)" in page
