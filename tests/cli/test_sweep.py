"""`mrlclient sweep`."""

import json
import os
import re
import signal
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mrlclient.cli._sweep_tables import show
from mrlclient.evaluate import Outcome
from mrlclient.evaluate._front import first_that_failed
from mrlclient.testing.emulator import Fault
from tests.cli.running import command, environment

EXAMPLE = Path(__file__).parent.parent / "data" / "outcome.json"
WORDS = ["whale", "bread", "violin", "train", "solar", "river", "bank", "glass", "stone", "cloud", "garden", "letter"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cached"))
    folder = tmp_path / "data"
    (folder / "qrels").mkdir(parents=True)
    pairs = [(a, b) for a in WORDS for b in WORDS if a != b]
    documents = [{"_id": f"d{i}", "text": f"All about a {a} and a {b}, the {b}."} for i, (a, b) in enumerate(pairs)]
    queries = [
        {"_id": f"q{i}", "text": f"canary: which {a}, which {b}?", "metadata": {"lang": "en" if i % 2 else "de"}}
        for i, (a, b) in enumerate(pairs)
    ]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(len(pairs)))
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return folder


def test_a_table_a_recommendation_and_json(cli, folder, tmp_path):
    done = cli("sweep", folder, "--widths", "128,64", "--group-by", "lang", "-t", "0.1", "--json", tmp_path / "o.json")
    assert done.status == 0
    assert max(map(len, done.text.splitlines())) <= 80
    assert "binary+float32" in done.text
    assert "…" not in done.text
    outcome = Outcome.from_dict(json.loads((tmp_path / "o.json").read_text()))
    (model,) = outcome.models
    assert [point.dimensions for point in model.points[:3]] == [256, 128, 64]
    assert f"Take {model.recommendation.dimensions} dimensions of {model.recommendation.dtype}" in done.text
    assert "By group" in done.text
    assert "canary" not in done.text + done.err + (tmp_path / "o.json").read_text()
    # The vectors were kept: the second time nothing is embedded.
    again = cli("sweep", folder, "--widths", "64", "--no-rescore", "--dtypes", "float16")
    assert "264 texts from the cache" in " ".join(again.text.split())
    assert "int8" not in again.text


def test_the_worst_hit_queries_by_name_and_a_funnel_with_its_cost(cli, folder, tmp_path):
    done = cli(
        "sweep", folder, "--widths", "64,16", "--dtypes", "float32,int8", "-t", "0.02", "--json", tmp_path / "o.json"
    )
    outcome = Outcome.from_dict(json.loads((tmp_path / "o.json").read_text()))
    (model,) = outcome.models
    failed = first_that_failed(model, "ndcg@10")
    assert failed is not None
    looked = [point for point in (model.recommended, failed) if point is not None and point.worst]
    assert looked
    text = " ".join(done.text.split())
    assert text.count("The worst hit, by name:") == len(looked)
    for point in looked:
        worst = point.worst[0]
        assert f"{worst.id} {worst.before:.3f} {worst.after:.3f} {worst.before - worst.after:+.3f}" in text
    assert f"{failed.dimensions} dimensions of" in text
    for setting in model.funnel:
        lost = f"{setting.loss.mean:+.3f} {setting.loss.low:+.3f} {setting.loss.high:+.3f}"
        scanned = f"{132 * setting.shortlist_dimensions * 4 / 1000:.3g} kB"
        score = setting.scores["ndcg@10"]
        row = f"{setting.shortlist_dimensions} {setting.depth} {score:.3f} {lost} {scanned} {setting.cost:.0%}"
        assert row.replace("%", " %") in text
    assert "135 kB" in text
    assert max(map(len, done.text.splitlines())) <= 80
    assert not re.search(r"\d%", done.text)


class Balanced(HTMLParser):
    """Refuses tags that are not closed in their order."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})

    def __init__(self, page):
        super().__init__()
        self.open = []
        self.seen = set()
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert len(dict(attrs)) == len(attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_from_beir_to_the_report(cli, folder, tmp_path):
    files = ("--json", tmp_path / "o.json", "--html", tmp_path / "o.html")
    done = cli("sweep", folder, "--widths", "128,16", "--group-by", "lang", "-t", "0.1", *files)
    assert done.status == 0
    saved = (tmp_path / "o.json").read_text()
    page = (tmp_path / "o.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert {"svg", "table", "select"} <= Balanced(page).seen
    (model,) = Outcome.from_dict(json.loads(saved)).models
    assert f"{model.recommendation.dimensions} dimensions as {model.recommendation.dtype}" in page
    hurt = [query.id for point in model.points for query in point.worst]
    assert hurt
    # The page has the queries' texts, and the JSON none.
    assert "canary: which" in page
    assert "canary" not in saved + done.text
    assert oct((tmp_path / "o.json").stat().st_mode) == oct((tmp_path / "o.html").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["o.html", "o.json"]


def test_from_files_of_other_names_and_fields(cli, folder, tmp_path):
    def renamed(name, **names):
        rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        made = [{names.get(key, key): value for key, value in row.items()} for row in rows]
        path = tmp_path / f"my-{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in made))
        return path

    documents, queries = (renamed(name, _id="key", text="body") for name in ("corpus", "queries"))
    given = (documents, "--queries", queries, "--qrels", folder / "qrels" / "test.tsv")
    fields = ("--id-field", "key", "--text-field", "body")
    sizes = ("--widths", "64", "--dtypes", "float32,int8", "-t", "0.1")
    own, beir = tmp_path / "own.json", tmp_path / "beir.json"
    assert cli("sweep", *given, *fields, *sizes, "--json", own).status == 0
    assert cli("sweep", folder, *sizes, "--json", beir).status == 0
    ours, theirs = (Outcome.from_dict(json.loads(path.read_text())) for path in (own, beir))
    for one, other in zip(ours.models[0].points, theirs.models[0].points, strict=True):
        assert (one.scores, one.loss, one.worst) == (other.scores, other.loss, other.worst)
    # Without judgements it is the agreement with the full width.
    done = cli("sweep", documents, "--queries", queries, *fields, *sizes, "--json", own)
    assert done.status in (0, 3)
    assert "not how good it is" in " ".join(done.text.split())
    assert Outcome.from_dict(json.loads(own.read_text())).data.measure == "overlap@10"


def test_no_file_is_left_where_it_failed(cli, folder, tmp_path):
    kept = tmp_path / "o.html"
    kept.write_text("an older report")
    (folder / "queries.jsonl").write_text('{"_id": "q0", "text": "canary"}\n{"_id": "q0", "text": "again"}\n')
    done = cli("sweep", folder, "--json", tmp_path / "o.json", "--html", kept)
    assert "'q0'. No two may be alike" in done.refusal()
    assert kept.read_text() == "an older report"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["o.html"]


def test_too_few_queries_have_a_status_of_their_own(cli, folder):
    lines = (folder / "qrels" / "test.tsv").read_text().splitlines(keepends=True)
    (folder / "qrels" / "test.tsv").write_text("".join(lines[:31]))
    done = cli("sweep", folder, "--no-cache", "--widths", "64", "--dtypes", "float32")
    assert done.status == 3
    assert "Not enough evidence." in done.text
    assert "102 of 132 queries have no document" in " ".join(done.text.split())


def test_models_are_compared_at_equal_bytes(cli, folder, openai):
    models = ("--model", "wordllama:l2-supercat-256", "--model", "openai:text-embedding-3-small")
    done = cli("sweep", folder, *models, "--widths", "256,128", "--no-rescore", "--dtypes", "int8")
    assert done.status in (0, 3)
    assert "At equal bytes" in done.text
    assert {request.body.get("dimensions", 1536) for request in openai.requests} == {1536}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--widths", "64;32"], "--widths takes whole numbers"),
        (["--cache", "a.sqlite", "--no-cache"], "exclude each other"),
        (["--tolerance", "2"], "tolerance must be a number"),
        (["--group-by", "color"], "no field 'color'"),
        (["--split", "dev"], "no dev.tsv"),
        (["--json", "same", "--html", "same"], "name the same file"),
        (["--dtypes", "int3"], "not 'int3'"),
    ],
)
def test_refusals(cli, folder, arguments, said):
    assert said in cli("sweep", folder, *arguments).refusal()


def test_queries_without_documents(cli, folder):
    assert "no documents" in cli("sweep", "--queries", folder / "queries.jsonl").refusal()


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's here")
def test_an_interrupted_sweep_goes_on_from_the_cache(cli, folder, openai):
    def heed():
        # What runs the tests may have it ignored, and that is inherited.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    asked = threading.Event()

    def is_of_queries(request):
        return "canary" in str(request.body)

    def is_waited_for(request):
        return is_of_queries(request) and (asked.set() or True)

    openai.faults.append(Fault(delay=20, when=is_waited_for))
    arguments = ("sweep", folder, "-m", "openai:text-embedding-3-small", "--widths", "256", "--dtypes", "float32")
    with subprocess.Popen(command(*arguments), stdout=-1, stderr=-1, env=environment(), preexec_fn=heed) as process:
        assert asked.wait(40)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    openai.clear()
    openai.faults.clear()
    assert cli(*arguments).status in (0, 3)
    assert openai.requests
    assert all(map(is_of_queries, openai.requests))


def test_nothing_has_no_minus(capsys):
    """A loss that rounds to nothing is told as nothing."""

    def shrunk(value):
        if isinstance(value, list):
            return [shrunk(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {key: -1e-9 if key in ("mean", "low", "high") else shrunk(each) for key, each in value.items()}

    show(Outcome.from_dict(shrunk(json.loads(EXAMPLE.read_text()))))
    shown = capsys.readouterr().out
    assert shown.count("+0.000 +0.000") > 5
    assert "-0.000" not in shown
