"""The benchmark runs, and says what it saw. How fast anything is, no test asserts."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import PARTS
from benchmarks.bench import Bench, Case
from benchmarks.page import PAGE, filled, places
from benchmarks.parts import bulk
from benchmarks.processes import MissingError


@pytest.fixture(scope="module")
def bench():
    with Bench(1, quick=True) as made:
        yield made


def test_a_round_of_each_kind(bench):
    """One process for each command of the runner that needs the server."""
    many = Case("mrlclient", "many", {"count": 100}, settings={"batch": 10, "concurrency": 3})
    one = Case("mrlclient", "one", {"repeat": 20})
    measured = bench.measure([many, one])
    assert [result.missing for result in measured] == ["", ""]
    [[wide], [single]] = [result.rounds for result in measured]
    assert (wide["server requests"], wide["server texts"]) == (10, 100)
    # The runner makes a call before it looks at the clock.
    assert single["server requests"] == single["server texts"] == 21
    assert 1 <= wide["server connections"] <= 3
    assert single["server connections"] == 1
    assert wide["cpu"] > 0
    assert single["cpu"] > 0


def test_lists_of_numbers_and_tls(bench):
    """The runner refuses a client that returns anything but unit vectors of the right number and width."""
    bench.configure(floats=True)
    [result] = bench.measure([Case("mrlclient", "bulk", {"count": 8}, tls=True, settings={"width": 64})])
    bench.configure()
    assert result.rounds[0]["server texts"] == 8
    assert bench.answer_size(8, 64, floats=True) > bench.answer_size(8, 64) > 8 * 64 * 4


def test_what_is_not_there_is_said(bench):
    with pytest.raises(MissingError, match="without the optional wheels"):
        bench.open(Case("plain", "one", {"repeat": 1}))
    table = bulk._table(bench.measure([Case("plain", "bulk", {"count": 8})]))
    assert "| mrlclient, without optional wheels | not available |" in table


def test_every_table_has_its_place():
    text = PAGE.read_text("utf-8")
    named = {"machine"} | {place for part in PARTS.values() for place in part.places}
    assert places(text) == named
    assert text.count("<!-- measured:") == len(named)


def test_filling():
    text = "before\n<!-- measured:a -->\nold\n<!-- /measured -->\nafter\n"
    made = filled(text, {"a": "new"})
    assert made == text.replace("old", "new")
    assert filled(made, {"a": "new"}) == made
    with pytest.raises(ValueError, match=r"differ in a, b$"):
        filled(text, {"b": "new"})
