"""The page in a real browser: what is drawn, asked for, read out and printed."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from mrlclient.evaluate._front import front, worth_a_look
from mrlclient.evaluate.report import html
from tests.report import sample

pytestmark = pytest.mark.browser

OUTCOMES = {
    "two": sample.two_models,
    "undecided": sample.undecided,
    "full": sample.full,
    "fixed": sample.fixed_width,
    "hostile": sample.hostile,
}
each_outcome = pytest.mark.parametrize("make", OUTCOMES.values(), ids=OUTCOMES)

#: The lines of a chart: style, length in pixels, and the middles of its marks, which are drawn at the origin and moved.
LINES = """chart => [...chart.querySelectorAll('.series')].map(series => ({
  style: series.classList[1],
  length: series.querySelector('.line')?.getTotalLength() ?? 0,
  open: series.querySelectorAll('.mark.open').length,
  marks: [...series.querySelectorAll('.mark')].map(mark => {
    const { e, f } = mark.transform.baseVal.consolidate().matrix, box = mark.getBoundingClientRect();
    const title = mark.parentNode.querySelector('title').textContent;
    return { x: e, y: f, shown: box.width > 2 && box.height > 2, title };
  }),
}))"""
#: The numbers beside a vertical axis, and where they stand.
SCALE = """chart => [...chart.querySelectorAll('text.tick[text-anchor=end]')].map(tick =>
  [Number(tick.textContent), Number(tick.getAttribute('y')) - 4])"""


def charts(page, size="wide"):
    return page.tab.locator(f"svg.chart.{size}")


@pytest.mark.parametrize(("width", "size"), [(1440, "wide"), (360, "narrow")])
def test_every_point_is_drawn(opened, width, size):
    outcome = sample.outcome()
    model = outcome.models[0]
    page = opened(outcome, width=width)
    quality, funnel = (charts(page, size).nth(place).evaluate(LINES) for place in (0, 1))
    assert [len(line["marks"]) for line in quality] == [4] * 5 + [3] * 2
    assert sum(len(line["marks"]) for line in quality) == len(model.points) + len(model.references)
    assert sum(len(line["marks"]) for line in funnel) == len(model.funnel)
    for line in quality + funnel:
        assert line["length"] > 30
        assert all(mark["shown"] for mark in line["marks"])
    assert sum(line["open"] for line in quality) == sum(point.verdict != "within" for point in model.points)
    assert charts(page, "narrow" if size == "wide" else "wide").first.is_hidden()
    assert charts(page, size).first.locator("path.front").evaluate("path => path.getTotalLength()") > 100


def test_the_marks_stand_where_the_axis_says(opened):
    outcome = sample.outcome()
    chart = charts(opened(outcome)).first
    (low, at_low), *_, (high, at_high) = chart.evaluate(SCALE)
    for line in chart.evaluate(LINES)[:5]:
        for mark in line["marks"]:
            score = low + (mark["y"] - at_low) / (at_high - at_low) * (high - low)
            size, said = re.match(r"(.*), (?:within|beyond|cannot).*?: ([\d.]+)", mark["title"]).groups()
            assert score == pytest.approx(float(said), abs=1e-3)
            point = next(point for point in outcome.models[0].points if sample.name(point) == size)
            assert float(said) == pytest.approx(point.scores["ndcg@10"], abs=5e-4)
    across = {
        sample.by_name(outcome, mark["title"].partition(", within")[0]).bytes_per_vector: mark["x"]
        for line in chart.evaluate(LINES)[:5]
        for mark in line["marks"]
        if ", within" in mark["title"]
    }
    ordered = sorted(across)
    assert [across[size] for size in ordered] == sorted(across.values())
    # The axis is logarithmic: a double is as far everywhere.
    assert across[1024] - across[512] == pytest.approx(across[512] - across[256], abs=0.1)


def test_the_ring_is_around_the_recommended_size(opened):
    outcome = sample.outcome()
    chart = charts(opened(outcome)).first
    ring = chart.locator(".ring").evaluate("ring => [Number(ring.getAttribute('cx')), Number(ring.getAttribute('cy'))]")
    (mark,) = (
        [mark["x"], mark["y"]]
        for line in chart.evaluate(LINES)
        for mark in line["marks"]
        if mark["title"].startswith("128 × int8,")
    )
    assert ring == pytest.approx(mark, abs=1e-3)
    assert chart.locator(".ring-label").inner_html() == "128 × int8"


def test_each_model_has_a_line_and_its_own_chart(opened):
    outcome = sample.two_models()
    page = opened(outcome)
    together = charts(page).first.evaluate(LINES)
    assert [len(line["marks"]) for line in together] == [
        len(front(model.points, "ndcg@10")) for model in outcome.models
    ]
    assert charts(page).count() == 1 + 2 * len(outcome.models)
    assert page.tab.locator("article h2").all_inner_texts() == [
        "128 dimensions as int8 are enough",
        "Not enough evidence",
    ]


@each_outcome
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_spills(opened, make, width):
    page = opened(make(), width=width)
    assert page.spills() == []
    page.tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.spills() == []
    assert page.console == []
    assert len(page.requests) == 1


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("two", "light"), ("two", "dark"), ("undecided", "light"), ("fixed", "dark"), ("hostile", "light")],
)
def test_axe_finds_nothing(opened, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(OUTCOMES[name](), scheme=scheme)
    page.tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = Axe().run(page.tab)
    assert found.response["passes"]
    violations = found.response["violations"]
    assert [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in violations] == []


def test_the_two_themes_differ(opened):
    colours = {}
    for scheme in ("light", "dark"):
        page = opened(sample.outcome(), scheme=scheme)
        colours[scheme] = page.tab.evaluate(
            """() => ['body', 'figure', '.s1 .line', '.lead'].map(each => {
              const style = getComputedStyle(document.querySelector(each));
              return [style.backgroundColor, style.color, style.stroke];
            })"""
        )
    assert all(light != dark for light, dark in zip(colours["light"], colours["dark"], strict=True))


def test_printed_it_is_light_and_whole(opened):
    page = opened(sample.two_models(), width=700, scheme="dark", media="print")
    assert page.spills() == []
    assert page.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.tab.locator("nav").is_hidden()
    tables = page.tab.locator("details.data table")
    captions = tables.locator("caption").all_inner_texts()
    for model in sample.two_models().models:
        assert sum(model.address in caption for caption in captions) >= 3
    for place in range(tables.count()):
        assert tables.nth(place).bounding_box()["height"] > 20
    assert page.tab.pdf(format="A4").startswith(b"%PDF-")


def test_by_keyboard(opened):
    page = opened(sample.outcome())
    press = page.tab.keyboard.press
    press("Tab")
    assert page.tab.evaluate("document.activeElement.className") == "skip"
    assert page.tab.locator(".skip").bounding_box()["x"] >= 0
    press("Enter")
    assert page.tab.evaluate("document.activeElement.id") == "main"
    visited = []
    for _ in range(40):
        press("Tab")
        visited.append(page.tab.evaluate("document.activeElement.innerText"))
        if visited[-1] == "Every size in figures":
            break
    assert visited[:3] == ["Quality and bytes", "What was measured", "How to read it"]
    press("Enter")
    assert page.tab.locator("details.data").first.evaluate("each => each.open")
    press("Tab")
    region = page.tab.evaluate("[document.activeElement.role, document.activeElement.ariaLabel]")
    assert region == ["region", "Every size of wordllama:l2-supercat-256"]


def test_it_is_read_out_in_order(opened):
    page = opened(sample.outcome())
    headings = page.tab.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map(each => [Number(each.tagName[1]), each.innerText])"
    )
    assert [level for level, _ in headings][:3] == [1, 2, 3]
    assert all(after - before <= 1 for (before, _), (after, _) in pairwise(headings))
    landmarks = page.tab.locator("body").aria_snapshot()
    for line in ("- banner:", "- main:", '- navigation "On this page":', "- contentinfo:", '- region "Verdict":'):
        assert line in landmarks
    assert 'img "nDCG@10 against the bytes of a vector"' in landmarks
    assert page.tab.locator("table:not(:has(caption))").count() == 0
    assert page.tab.locator("th:not([scope])").count() == 0


def test_hostile_texts_stay_texts(opened):
    page = opened(sample.hostile(), width=360)
    assert page.tab.locator("img, script, iframe, object, [onerror], [onmouseover]").count() == 0
    shown = page.tab.locator("body").evaluate("body => body.textContent")
    for text in (sample.MARKUP, sample.LONG, sample.RTL):
        assert text in shown
    assert r"nul \x00 and half \ud83d" in shown
    assert page.console == []


def test_the_policy_lets_nothing_load(browser):
    """Served over HTTP, where a browser would ask for an icon; and with what an attacker might get in."""
    asked = []
    hurt = (
        "<script>alert(1)</script><img src='/image.png'><link rel='stylesheet' href='/style.css'>"
        "<iframe src='/frame'></iframe><style>@import '/import.css';</style><svg><use href='/sprite.svg#a'/></svg>"
        "</body>"
    )
    pages = {"/report": html(sample.outcome()), "/hurt": html(sample.outcome()).replace("</body>", hurt)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if self.path in pages else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(pages.get(self.path, "").encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context()
        try:
            for path in pages:
                tab = context.new_page()
                dialogs, complaints = [], []
                tab.on("dialog", lambda dialog, dialogs=dialogs: (dialogs.append(dialog.message), dialog.dismiss()))
                tab.on("console", lambda message, complaints=complaints: complaints.append(message.text))
                tab.goto(f"http://127.0.0.1:{server.server_port}{path}", wait_until="networkidle")
                assert dialogs == []
                assert bool(complaints) == (path == "/hurt")
        finally:
            context.close()
            server.shutdown()
    assert asked == ["/report", "/hurt"]


def test_a_group_that_loses_more_is_named(opened):
    page = opened(sample.outcome())
    section = page.tab.locator("section", has=page.tab.locator("#groups-1"))
    assert section.locator("p strong").inner_text() == "Română loses more than the others do."
    assert section.locator("li.worse .who").inner_text().startswith("Română")
    assert section.locator("li").count() == len(sample.LANGUAGES)
    spans = section.locator(".span").evaluate_all("all => all.map(each => each.getBoundingClientRect().width)")
    assert min(spans) > 10
    none = replace(sample.outcome(), models=(sample.without_worse_groups(),))
    assert "No group is known to lose more" in opened(none).tab.locator("main").inner_text()


def test_a_list_says_whose_queries_are_shown(opened):
    outcome = sample.two_models()
    page = opened(outcome)
    assert page.tab.locator("select").count() == 2
    for number, model in enumerate(outcome.models, 1):
        looked = worth_a_look(model, "ndcg@10")
        blocks = page.tab.locator("section", has=page.tab.locator(f"#worst-{number}")).locator(".chosen")
        assert blocks.count() == len(looked)
        choose = page.tab.locator(f"#worst-at-{number}")
        for place, point in enumerate(looked):
            choose.select_option(index=place)
            assert [blocks.nth(other).is_visible() for other in range(len(looked))] == [
                other == place for other in range(len(looked))
            ]
            assert blocks.nth(place).locator("p strong").inner_text() == sample.name(point)
            assert blocks.nth(place).locator("li").count() == len(point.worst)
    printed = opened(outcome, media="print").tab
    assert all(
        printed.locator(".chosen").nth(place).is_visible() for place in range(printed.locator(".chosen").count())
    )
    assert printed.locator("select").first.is_hidden()


def test_the_list_opens_at_the_recommended_size(opened):
    page = opened(sample.outcome())
    assert page.tab.locator("#worst-at-1").evaluate("list => list.selectedOptions[0].text").startswith("128 × int8,")
    assert page.tab.locator(".chosen:visible p strong").all_inner_texts() == ["128 × int8"]
