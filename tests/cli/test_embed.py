import dataclasses
import io
import json

import numpy as np
import pytest

from mrlclient import Embedder
from mrlclient.testing.emulator import Fault
from tests.cli.running import run

TEXTS = ["whales live in the sea", "bread needs flour", "naïve 🐋"]


@pytest.fixture(scope="module")
def expected():
    with Embedder(on_narrow="allow") as embedder:
        return embedder.embed(TEXTS, dimensions=[256, 64, 8])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


def assert_same(numbers, matrix):
    """Every number is read back as the float32 that it was."""
    np.testing.assert_array_equal(np.array(numbers, dtype=np.float64).astype(np.float32), matrix)


def test_json(file, expected):
    done = run("embed", "-f", file, "-d", "64,256", "--format", "json", "--input-type", "document")
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    embeddings = found.pop("embeddings")
    assert found == {
        "provider": "wordllama",
        "model": "l2-supercat-256",
        "space": "wordllama/l2-supercat",
        "dimensions": [256, 64],
        "reduction": "native",
        "input_type": "document",
        "task": None,
        "usage": dataclasses.asdict(expected.usage),
    }
    assert list(embeddings) == ["256", "64"]
    for width in (256, 64):
        assert_same(embeddings[str(width)], expected.at(width))


def test_npy_into_a_pipe(file, expected):
    done = run("embed", "-d", "64", "--format", "npy", stdin=file.read_bytes())
    assert (done.status, done.err) == (0, "")
    np.testing.assert_allclose(np.load(io.BytesIO(done.out)), expected.at(64), atol=1e-7)


def test_npy_into_a_file(cli, file, expected):
    output = file.with_name("vectors.npy")
    output.write_bytes(b"what stood there before")
    done = cli("embed", "-f", file, "-o", output)
    assert (done.status, done.out, done.err) == (0, b"", "")
    found = np.load(output)
    assert (found.dtype, found.shape) == (np.float32, (3, 256))
    np.testing.assert_array_equal(found, expected.embeddings)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    assert sorted(file.parent.iterdir()) == [file, output]


def test_jsonl(cli, file, expected):
    output = file.with_name("vectors.jsonl")
    assert cli("embed", "-f", file, "-d", "256,64,8", "--on-narrow", "allow", "-o", output).status == 0
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert row["space"] == "wordllama/l2-supercat"
        assert row["dimensions"] == [256, 64, 8]
        for width in (256, 64, 8):
            assert_same(row["embeddings"][str(width)], expected.at(width)[row["index"]])


def test_the_table_is_a_preview(cli, expected):
    done = cli("embed", *TEXTS, "-d", "256,64")
    assert (done.status, done.err) == (0, "")
    for width in (256, 64):
        assert " ".join(f"{number:+.4f}" for number in expected.at(width)[1, :6]) in done.text
    assert "preview" in done.text
    assert "\x1b" not in done.text
    assert max(map(len, done.text.splitlines())) <= 80


def test_the_table_of_many_texts_says_how_many_it_leaves_out(cli):
    assert "and 990 more texts" in cli("embed", stdin=b"text\n" * 1000).text


def test_a_table_in_a_file(cli, tmp_path):
    output = tmp_path / "preview.txt"
    assert cli("embed", "a", "-o", output, "--format", "table").out == b""
    assert "preview" in output.read_text("utf-8")


@pytest.mark.parametrize("data", ["one\ntwo\n", "one\r\ntwo", "\ufeffone\rtwo\r"])
def test_one_text_a_line(cli, data):
    found = json.loads(cli("embed", "--format", "json", stdin=data.encode()).out)["embeddings"]["256"]
    with Embedder() as embedder:
        assert_same(found, embedder.embed(["one", "two"]).embeddings)


def test_a_line_ends_at_a_line_end_only(cli):
    text = "one\x0btwo\x0cthree\x1cfour\x85five\u2028six"
    found = json.loads(cli("embed", "--format", "json", stdin=text.encode()).out)["embeddings"]["256"]
    assert len(found) == 1


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.JSONL"])
@pytest.mark.parametrize(("field", "options"), [("text", []), ("body", ["--field", "body"])])
def test_a_file_of_objects(cli, tmp_path, expected, name, field, options):
    path = tmp_path / name
    path.write_text("".join(json.dumps({"id": 1, field: text}) + "\n" for text in TEXTS), encoding="utf-8")
    found = json.loads(cli("embed", "-f", path, *options, "--format", "json").out)
    assert_same(found["embeddings"]["256"], expected.embeddings)


def test_a_hosted_model(cli, openai):
    done = cli("embed", *TEXTS, "-m", "openai:text-embedding-3-small", "-d", "512,1024", "--format", "json")
    found = json.loads(done.out)
    assert done.err == ""
    assert found["reduction"] == "server"
    assert found["usage"]["tokens"] > 0
    assert found["usage"]["usd"] == pytest.approx(found["usage"]["tokens"] * 0.02e-6)
    assert {width: np.shape(rows) for width, rows in found["embeddings"].items()} == {
        "1024": (3, 1024),
        "512": (3, 512),
    }
    assert len(openai.requests) == 1


@pytest.mark.parametrize("options", [[], ["--truncate-input"]])
def test_truncate_input_is_in_the_request(cli, others, options):
    assert cli("embed", *TEXTS, "-m", "remote:voyage-4", *options, "--format", "json").status == 0
    (request,) = others.requests
    assert request.body["truncation"] is bool(options)


def test_a_task(cli, others):
    arguments = ["embed", "a", "-m", "local:nomic-embed-text-v1.5", "--task", "clustering"]
    found = json.loads(cli(*arguments, "--format", "json").out)
    assert (found["task"], found["input_type"]) == ("clustering", None)
    assert ", task clustering" in cli(*arguments).text


def test_the_model_of_the_environment(cli, openai, monkeypatch):
    monkeypatch.setenv("MRLCLIENT_MODEL", "openai:text-embedding-3-large")
    assert json.loads(cli("embed", "a", "--format", "json").out)["model"] == "text-embedding-3-large"


def test_a_warning_is_one_line_and_said_once(cli, openai):
    narrow = cli("embed", "a", "-d", "64,8", "--format", "json")
    (line,) = narrow.err.splitlines()
    assert line.startswith("warning: wordllama:l2-supercat-256 at 8 dimensions")
    assert narrow.status == 0
    assert cli("embed", "a", "-d", "8", "--on-narrow", "allow").err == ""
    openai.faults.append(Fault(ignore_fields=("dimensions",)))
    ignored = cli("embed", "a", "-m", "openai:text-embedding-3-small", "-d", "512", "--format", "json")
    (line,) = ignored.err.splitlines()
    assert line.startswith("warning: ")
    assert np.shape(json.loads(ignored.out)["embeddings"]["512"]) == (1, 512)


def test_a_special_file_is_written_to_and_not_replaced(cli, tmp_path):
    import os
    import threading

    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text("utf-8")), daemon=True)
    reader.start()
    assert cli("embed", "a", "--format", "json", "-o", pipe).status == 0
    reader.join(10)
    assert json.loads(read[0])["dimensions"] == [256]
    assert pipe.is_fifo()
