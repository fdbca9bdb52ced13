"""What a sweep found travels as JSON, whole."""

import json
from pathlib import Path

import pytest

from mrlclient.errors import ConfigurationError
from mrlclient.evaluate.outcome import Outcome

EXAMPLE = Path(__file__).parent.parent / "data" / "outcome.json"


@pytest.fixture
def saved():
    return json.loads(EXAMPLE.read_text("utf-8"))


def test_what_was_written_is_read_again(saved):
    outcome = Outcome.from_dict(saved)
    assert json.loads(json.dumps(outcome.to_dict(texts=True))) == saved
    assert outcome.models[0].full.dimensions == outcome.models[0].native_dimensions
    recommended = outcome.models[0].recommended
    assert recommended is not None
    assert recommended.verdict == "within"


def test_the_texts_stay_out_unless_they_are_asked_for(saved):
    outcome = Outcome.from_dict(saved)
    text = outcome.models[0].points[1].worst[0].text
    assert text is not None
    assert text not in repr(outcome)
    plain = outcome.to_dict()
    assert text not in json.dumps(plain)
    assert Outcome.from_dict(plain).models[0].points[1].worst[0].before == outcome.models[0].points[1].worst[0].before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda saved: saved.update(format=2), "format 1"),
        (lambda saved: saved.pop("format"), "format 1"),
        (lambda saved: saved["data"].pop("queries"), r"Outcome\.data has no 'queries'"),
        (lambda saved: saved["data"].update(color="red"), r"Outcome\.data has the unknown key 'color'"),
        (lambda saved: saved["data"].update(queries="many"), r"Outcome\.data\.queries must be a int"),
        (lambda saved: saved["data"].update(judged=1), r"Outcome\.data\.judged must be a bool"),
        (lambda saved: saved["data"].update(queries=True), r"Outcome\.data\.queries must be a int"),
        (lambda saved: saved.update(models={}), r"Outcome\.models must be a list"),
        (lambda saved: saved["models"][1].update(points=[3]), r"Outcome\.models\[1\]\.points\[0\] must be an object"),
        (lambda saved: saved["models"][0]["points"][2].update(verdict="fine"), r"points\[2\]\.verdict must be one of"),
        (lambda saved: saved["models"][0]["points"][2].update(scores=[]), r"points\[2\]\.scores must be an object"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(saved, change, said):
    change(saved)
    with pytest.raises(ConfigurationError, match=said):
        Outcome.from_dict(saved)


def test_only_an_object_is_read():
    with pytest.raises(ConfigurationError, match="must be an object, not list"):
        Outcome.from_dict([])
