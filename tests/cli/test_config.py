"""`mrlclient config`, and `mrlclient embed` with a profile."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from mrlclient import Embedder
from mrlclient.config import tables
from tests.cli.running import run
from tests.config.test_dict import PROFILES

SMALL, WORDS = "openai:text-embedding-3-small", "wordllama:l2-supercat-256"

TWO = f"""\
default = "words"

[profiles.words]
model = "{WORDS}"
dimensions = [256, 64]

[profiles.small]
model = "{SMALL}"
dimensions = 512
api_key_env = "NOT_SET"
base_url = "https://gateway.example/v1"
cache = "redis://me:canary-password@localhost:1"
fallback = [{{ model = "{SMALL}", timeout = 3 }}]

[profiles.small.limits]
shared = "valkey://:canary-password@localhost:1"
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the configuration of the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)

    def write(text, name="mrlclient.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


# check


def test_check(cli, write):
    path = write(TWO)
    done = cli("config", "check")
    assert (done.status, done.err) == (0, "")
    words, small, last = done.text.splitlines()
    assert words == f"words: {WORDS}, dimensions 256 64, space wordllama/l2-supercat"
    assert small == f"small: {SMALL}, dimensions 512, space openai/text-embedding-3-small"
    assert last == f"{path}: nothing is wrong"
    found = json.loads(cli("config", "check", "--json", "--config", path).out)
    assert (found["file"], found["problems"]) == (str(path), [])
    assert found["profiles"]["small"] == {
        "model": SMALL,
        "space": "openai/text-embedding-3-small",
        "dimensions": [512],
        "others": [SMALL],
    }


def test_check_in_a_process_of_its_own(write, tmp_path):
    write(TWO)
    done = run("config", "check", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")


def test_check_tells_all_that_is_wrong(cli, write):
    path = write(
        TWO.replace("dimensions = 512", "dimension = 512").replace("[256, 64]", '"canary"') + "\n[profiles.third]\n"
        'model = "openai:canary-not"\napi_key = "sk-canary"\n'
    )
    done = cli("config", "check")
    assert (done.status, done.err) == (2, "")
    lines = [line for line in done.text.splitlines() if line.startswith(str(path))]
    assert [int(line.removeprefix(f"{path}:").partition(":")[0]) for line in lines] == [5, 9, 19, 20]
    assert "sk-canary" not in done.text
    assert "dimension: there is no such key. Did you mean 'dimensions'?" in done.text
    told = json.loads(cli("config", "check", "--json").out)["problems"]
    assert [(each["line"], each["key"]) for each in told] == [
        (5, "dimensions"),
        (9, "dimension"),
        (19, "model"),
        (20, "api_key"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = \n", "mrlclient.toml:1: it is not TOML"),
        (None, "There is no mrlclient.toml here"),
    ],
)
def test_check_without_a_readable_file(cli, write, text, says):
    if text is not None:
        write(text)
    assert says in cli("config", "check").refusal()


def test_check_of_an_empty_file(cli, write):
    path = write("")
    done = cli("config", "check")
    assert (done.status, done.text) == (
        2,
        f'{path}:1: profiles: there are none. Write one: [profiles.NAME] and model = "provider:model".\n',
    )


# show


def test_show(cli, write, monkeypatch):
    path = write(TWO)
    done = cli("config", "show")
    assert (done.status, done.err) == (0, "")
    lines = [" ".join(line.split()) for line in done.text.splitlines()]
    assert f"file {path}" in lines
    assert "profile words" in lines
    assert f'model = "{WORDS}" # line 4' in lines
    assert "dimensions = [256, 64] # line 5" in lines
    assert lines[-1] == f"{WORDS}, dimensions 256 64, space wordllama/l2-supercat"
    monkeypatch.setenv("MRLCLIENT_MODEL", "voyage:voyage-4")
    monkeypatch.setenv("MRLCLIENT_DIMENSIONS", "256")
    lines = [" ".join(line.split()) for line in cli("config", "show").text.splitlines()]
    assert 'model = "voyage:voyage-4" # MRLCLIENT_MODEL' in lines
    assert "dimensions = 256 # MRLCLIENT_DIMENSIONS" in lines


def test_show_as_json(cli, write, monkeypatch):
    path = write(TWO)
    found = json.loads(cli("config", "show", "--profile", "small", "--json").out)
    assert (found["file"], found["profile"], found["left_out"]) == (str(path), "small", [])
    assert found["values"]["base_url"] == "https://gateway.example/v1"
    assert found["from"]["base_url"] == f"{path}:11"
    monkeypatch.setenv("MRLCLIENT_MODEL", "openai:text-embedding-3-large")
    monkeypatch.setenv("MRLCLIENT_PROFILE", "words")
    found = json.loads(cli("config", "show", "--json", "--config", path).out)
    assert found["from"] == {"model": "MRLCLIENT_MODEL", "dimensions": f"{path}:5"}


def test_show_says_what_is_left_out(cli, write, monkeypatch):
    write(TWO.replace("fallback", "# fallback"))
    monkeypatch.setenv("MRLCLIENT_MODEL", WORDS)
    monkeypatch.setenv("MRLCLIENT_DIMENSIONS", "64")
    done = cli("config", "show", "-p", "small")
    assert "left out, for MRLCLIENT_MODEL names another model: api_key_env, base_url" in done.text


def test_show_has_no_password(cli, write):
    write(TWO)
    for form in ([], ["--json"]):
        done = cli("config", "show", "-p", "small", *form)
        assert done.status == 0
        assert "canary" not in done.text + done.err
        assert done.text.count("an address with a password, which is not shown") == 2


def test_show_without_a_file(cli, write, monkeypatch):
    assert "There is no mrlclient.toml" in cli("config", "show").refusal()
    monkeypatch.setenv("MRLCLIENT_MODEL", WORDS)
    found = json.loads(cli("config", "show", "--json").out)
    assert (found["file"], found["profile"], found["values"]) == (None, None, {"model": WORDS})
    assert "file     none" in cli("config", "show").text


def test_show_refuses_what_is_wrong(cli, write):
    write('[profiles.a]\nmodel = "openai:text-embedding-3-small"\napi_key = "sk-canary"\n')
    assert "mrlclient.toml:3: api_key: a key does not stand in a profile" in cli("config", "show").refusal()


@pytest.mark.parametrize("command", ["check", "show", "schema"])
def test_without_pydantic(cli, write, monkeypatch, command):
    write(TWO)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert "pip install 'mrlclient[config]'" in cli("config", command).refusal()


# schema


@pytest.fixture
def schema(cli):
    done = cli("config", "schema")
    assert (done.status, done.err) == (0, "")
    return json.loads(done.out)


def test_the_schema_has_every_key(schema):
    def references(value):
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            value = list(value.values())
        for each in value if isinstance(value, list) else ():
            yield from references(each)

    assert {name.removeprefix("#/$defs/") for name in references(schema)} == set(schema["$defs"])
    for variant in schema["$defs"]["profile"]["anyOf"]:
        keys = variant["properties"]
        assert set(tables.EMBEDDER) < set(keys)
        assert [name for name in keys if not keys[name].get("description")] == []
    by_provider = {variant["title"]: variant["properties"] for variant in schema["$defs"]["profile"]["anyOf"]}
    assert "deployment" in by_provider["openai"]
    assert "model_path" in by_provider["nomic"]
    assert "api_key" not in by_provider["openai"]


def test_the_schema_takes_what_is_right_and_nothing_else(schema):
    jsonschema = pytest.importorskip("jsonschema", reason="only a framework brings it")
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name, values in PROFILES.items():
        validator.validate({"default": "a", "profiles": {"a": values}})
        for wrong in ({"nothing": 1}, {"max_attempts": "5"}, {"api_key": "sk-x"}, {"model": "nothing"}):
            assert not validator.is_valid({"profiles": {"a": values | wrong}}), (name, wrong)
    assert validator.is_valid({"profiles": {"a": {"model": "acme:letters", "region": "eu"}}})
    assert validator.is_valid({"models": {"openai:mine": {"native_dimensions": 3, "matryoshka": True}}})
    assert not validator.is_valid({"models": {"mine": {"native_dimensions": 3, "matryoshka": True}}})
    assert not validator.is_valid({"profile": {}})


# embed


def test_embed_with_a_profile(cli, write, openai, monkeypatch):
    path = write(TWO)
    monkeypatch.setenv("NOT_SET", openai.openai_key)
    found = json.loads(cli("embed", "whales", "--profile", "words", "--format", "json").out)
    assert (found["model"], found["dimensions"]) == ("l2-supercat-256", [256, 64])
    found = json.loads(cli("embed", "whales", "--config", path, "-d", "128", "--format", "json").out)
    assert found["dimensions"] == [128]
    with Embedder(WORDS) as embedder:
        expected = embedder.embed(["whales"], dimensions=128).embeddings
    np.testing.assert_allclose(found["embeddings"]["128"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-p", "wrds"], "there is no profile 'wrds'. Did you mean 'words'?"),
        (["-p", "words", "-m", WORDS], "--model stands in the profile. Leave it out, or leave out --profile"),
        (["-p", "words", "--truncate-input"], "--truncate-input stands in the profile"),
        (["-c", "nowhere.toml"], "There is no file nowhere.toml"),
        (["-p", "words", "-o", "x.npy"], "holds one matrix, and 2 widths are asked for"),
        (["-p", "small"], "No key for openai. Set NOT_SET"),
    ],
)
def test_embed_refuses(cli, write, arguments, says):
    write(TWO)
    assert says in cli("embed", "canary", *arguments).refusal()
