"""`mrlclient probe`: what is shown, what is refused, and how an unknown model gets past the refusal."""

import json
import tomllib

import numpy as np
import pytest

from mrlclient import Embedder, NotMatryoshkaError, truncate_dimensions
from mrlclient.evaluate import docstrings, probe
from mrlclient.evaluate._nesting import rotate
from tests.contract.compatible_server import CompatibleServer

MODEL = "wordllama:l2-supercat-256"

CONFIG = """\
# What we use.
[profiles.ours]
model = "openai-compatible:embed"
base_url = "{url}"   # next door

[models."openai-compatible:embed"]
# Nobody says.
native_dimensions = 256
matryoshka = false
"""


@pytest.fixture(scope="module")
def texts():
    return docstrings().documents[::6][:300]


@pytest.fixture
def file(texts, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def real_vectors(texts):
    """A real Matryoshka model behind the server."""
    with Embedder(MODEL) as embedder:
        return embedder.embed(texts).embeddings


def rotated_vectors(texts):
    """The same model, as one that is none."""
    return rotate(real_vectors(texts), np.random.default_rng(1))


def test_an_unknown_model_is_probed_declared_and_cut(cli, file, tmp_path, texts):
    path = tmp_path / "mrlclient.toml"
    with CompatibleServer(real_vectors) as server:
        path.write_text(CONFIG.format(url=server.url))
        with Embedder.from_config(path) as embedder, pytest.raises(NotMatryoshkaError):
            embedder.embed(texts[:2], dimensions=64)
        done = cli("probe", "--config", path, "--file", file, "--write", path)
        assert (done.status, done.err) == (0, "")
        assert "Verdict: matryoshka" in done.text
        # Only the full width was ever asked for.
        assert all("dimensions" not in request for request in server.requests)
        with Embedder.from_config(path) as embedder:
            cut = embedder.embed(texts[:2], dimensions=64)
            evidence = embedder.spec.sources["matryoshka"]
            with pytest.warns(match="narrowest width"):
                embedder.embed(texts[:2], dimensions=4)
    np.testing.assert_allclose(cut, truncate_dimensions(real_vectors(texts[:2]), 64), atol=1e-6)
    assert cut.reduction == "client"
    assert "300 texts" in evidence
    written = path.read_text()
    assert "# What we use." in written
    assert "# next door" in written
    assert "# Nobody says." in written
    (declared,) = tomllib.loads(written)["models"].values()
    assert declared["matryoshka"] is True
    assert declared["smallest_evaluated"] in (16, 32, 64)


def test_an_ordinary_model_is_not_declared(cli, file, tmp_path):
    path = tmp_path / "mrlclient.toml"
    with CompatibleServer(rotated_vectors) as server:
        path.write_text(CONFIG.format(url=server.url))
        before = path.read_text()
        done = cli("probe", "--config", path, "--profile", "ours", "--file", file, "--write", path)
    assert done.status == 2
    assert "Verdict: not matryoshka" in done.text or "Verdict: undecided" in done.text
    assert "no evidence to declare it Matryoshka" in done.err
    assert path.read_text() == before


def test_json_has_what_python_has(cli, file, texts):
    done = cli("probe", "--file", file, "--json", "--seed", 3, "--dimensions", "64,128")
    assert (done.status, done.err) == (0, "")
    with Embedder(MODEL) as embedder:
        assert json.loads(done.text) == probe(embedder, texts, [64, 128], seed=3).to_dict()


def test_the_table(cli, file):
    done = cli("probe", "--file", file)
    lines = done.text.splitlines()
    assert max(map(len, lines)) <= 80
    rows = {int(line.split()[0]): line for line in lines if line.strip()[:1].isdigit() and "%" in line}
    assert sorted(rows) == [8, 16, 32, 64, 128]
    assert "yes" in rows[64]
    assert "nDCG@10" not in done.text
    assert "300 texts; 30 draws, 12 rotations." in done.text


def test_the_bundled_texts_have_ndcg(cli):
    done = cli("probe")
    assert done.status == 0
    assert max(map(len, done.text.splitlines())) <= 80
    assert "nDCG@10" in done.text
    assert "Verdict: matryoshka" in done.text


@pytest.mark.parametrize("behaviour", ["honours", "ignores", "slices_without_l2", "refuses"])
def test_a_server_is_asked(cli, tmp_path, behaviour):
    path = tmp_path / "mrlclient.toml"
    with CompatibleServer(dimensions=behaviour) as server:
        path.write_text(CONFIG.format(url=server.url))
        done = cli("probe", "--server", "--config", path, "--dimensions", "64")
        as_json = cli("probe", "--server", "--config", path, "--dimensions", "64", "--json")
        assert len(server.requests) == 6
    assert (done.status, done.err, as_json.status) == (0, "", 0)
    assert f"The server: {behaviour}" in done.text
    assert "3 requests of 4 sentences" in done.text
    assert max(map(len, done.text.splitlines())) <= 80
    assert json.loads(as_json.text)["behaviour"] == behaviour


def test_what_a_server_costs_is_said(cli, openai):
    done = cli("probe", "--server", "--model", "openai:text-embedding-3-small")
    assert done.status == 0
    assert "about 150 tokens in all, about 0.000003 USD" in done.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", MODEL, "--profile", "x"], "exclude each other"),
        (["--server", "--write", "a.toml"], "declares nothing"),
        (["--server", "--dimensions", "64,32"], "one width"),
        (["--server"], "no server to ask"),
        (["--input-type", "query"], "about your texts"),
        (["--dimensions", "sixty"], "whole numbers"),
        (["--dimensions", "64"], "two or more"),
        (["--dimensions", "64,256"], "less than the full width"),
        (["--write", "a.txt"], "none by its name"),
        (["--write", "nowhere/pyproject.toml"], "There is no file"),
    ],
)
def test_what_is_refused(cli, arguments, words):
    done = cli("probe", *arguments)
    assert words in done.refusal()


def test_a_file_that_declares_the_model_otherwise_is_refused_first(cli, file, tmp_path):
    path = tmp_path / "mrlclient.toml"
    with CompatibleServer(real_vectors) as server:
        inline = '[profiles.ours]\nmodel = "openai-compatible:embed"\nbase_url = "{}"\nnative_dimensions = 256\n'
        path.write_text(inline.format(server.url) + "matryoshka = false\n")
        done = cli("probe", "--config", path, "--file", file, "--write", path)
        assert server.requests == []
    assert "mrlclient.toml:4: the profile 'ours' declares its model itself" in done.refusal()
