"""`mrlclient sweep`."""

import json
import os
import signal
import subprocess
import threading

import pytest

from mrlclient.evaluate import Outcome
from mrlclient.testing.emulator import Fault
from tests.cli.running import command, environment

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
        (["--json", "same", "--html", "same"], ("name the same file", "makes no report")),
        (["--dtypes", "int3"], "not 'int3'"),
    ],
)
def test_refusals(cli, folder, arguments, said):
    line = cli("sweep", folder, *arguments).refusal()
    assert any(each in line for each in ((said,) if isinstance(said, str) else said))


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
