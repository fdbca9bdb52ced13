"""Where the embeddings go: to the right place, whole or not at all, and as the numbers that they are."""

import io
import json
import os
import stat

import numpy as np
import pytest

from mrlclient import EmbeddingResult, Usage, catalogue
from mrlclient.cli._formats import rows, write_whole
from tests.cli.running import run_in_bash

posix = pytest.mark.skipif(os.name == "nt", reason="bash, devices and modes")


@pytest.mark.parametrize("name", ["same.jsonl", "link.jsonl", "hard.jsonl"])
def test_the_input_is_not_written_over(cli, tmp_path, name):
    path = tmp_path / "same.jsonl"
    path.write_text('{"text": "canary"}\n')
    (tmp_path / "link.jsonl").symlink_to(path)
    (tmp_path / "hard.jsonl").hardlink_to(path)
    assert "the texts come from" in cli("embed", "-f", path, "-o", tmp_path / name).refusal()
    assert path.read_text() == '{"text": "canary"}\n'


@pytest.mark.parametrize("name", ["x.csv", "x", "x.txt", "x.table", "-.x"])
def test_an_ending_that_says_nothing(cli, tmp_path, name):
    line = cli("embed", "canary", "-o", tmp_path / name).refusal()
    for way in (".json", ".jsonl", ".npy", "--format"):
        assert way in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "begins"), [("a.NPY", b"\x93NUMPY"), ("a.Jsonl", b'{"index": 0')])
def test_the_case_of_an_ending(cli, tmp_path, name, begins):
    assert cli("embed", "a", "-o", tmp_path / name).status == 0
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_dash_is_a_standard_stream(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("embed", "-f", "-", "-o", "-", "--format", "jsonl", stdin=b"one\ntwo\n")
    assert (done.status, len(done.out.splitlines())) == (0, 2)
    assert "preview" in cli("embed", "a", "-o", "-").text
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize(
    "line",
    [
        "$MRL embed a --format jsonl -o /dev/stdout | cat",
        "$MRL embed a --format jsonl -o /dev/stderr 2>&1 >/dev/null | cat",
        "$MRL embed a --format jsonl -o >(gzip > x.gz); until gzip -t x.gz 2>/dev/null; do sleep 0.1; done; zcat x.gz",
        "echo kept > x; $MRL embed a --format jsonl -o /dev/stdout >> x; grep -qx kept x && tail -1 x",
    ],
)
def test_a_stream_by_its_path(tmp_path, line):
    done = run_in_bash(line, cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["index"] == 0


@posix
def test_modes(cli, tmp_path):
    old, new = tmp_path / "old.npy", tmp_path / "new.npy"
    old.write_bytes(b"")
    old.chmod(0o640)
    before = os.umask(0o027)
    try:
        assert cli("embed", "a", "-o", old).status == cli("embed", "a", "-o", new).status == 0
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (old, new)] == [0o640, 0o640]
    old.chmod(0o606)
    assert cli("embed", "a", "-o", old).status == 0
    assert stat.S_IMODE(old.stat().st_mode) == 0o606


def test_a_long_name(cli, tmp_path):
    # A file of rows needs room in it for .part.json.
    for name in (f"{'n' * 250}.json", f"{'n' * 241}.npy"):
        output = tmp_path / name
        assert cli("embed", "a", "-o", output).status == 0
        assert output.exists()
    assert len(list(tmp_path.iterdir())) == 2
    assert "name too long" in cli("embed", "a", "-o", tmp_path / f"{'n' * 300}.npy").refusal().lower()


def test_a_link_is_followed(cli, tmp_path):
    target, link = tmp_path / "target.npy", tmp_path / "link.npy"
    link.symlink_to(target)
    assert cli("embed", "a", "-o", link).status == 0
    assert link.is_symlink()
    assert target.stat().st_size > 1000


def test_a_link_to_itself(cli, tmp_path):
    link = tmp_path / "link.npy"
    link.symlink_to(link)
    assert cli("embed", "a", "-o", link).status == 0
    assert link.stat().st_size > 1000


@posix
def test_what_a_killed_run_leaves_is_not_in_the_way(cli, tmp_path, monkeypatch):
    output = tmp_path / "a.npy"
    # The same process id, as in a container.
    (tmp_path / f".a.npy.{os.getpid()}.part").touch()
    assert cli("embed", "a", "-o", output).status == 0


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_every_float32_is_read_back(form):
    bits = np.random.default_rng(7).integers(0, 2**32, (300, 64), dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers[~(abs(numbers) <= 1)] = 0.1
    numbers[0, :4] = [1.0, 0.0, -0.0, 1e-45]
    spec = catalogue().models["wordllama:l2-supercat-256"]
    result = EmbeddingResult(numbers, spec, "native", None, None, Usage(None, None))
    if form == "json":
        stream = io.StringIO()
        write_whole(form, [result], [64], stream)
        found = json.loads(stream.getvalue())["embeddings"]["64"]
    else:
        found = [json.loads(line)["embeddings"]["64"] for line in rows(form, result, [64], 0)]
    assert {type(number) for row in found for number in row} == {float}
    assert np.array_equal(np.array(found).astype(np.float32).view(np.uint32), numbers.view(np.uint32))
