"""`Embedder.from_config`: which profile, what the environment replaces, and all that is wrong with a file."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from mrlclient import (
    ConfigurationError,
    DimensionsOutOfRangeError,
    Embedder,
    IncompatibleSpaceError,
    MissingCredentialsError,
    MissingExtraError,
    NarrowDimensionsWarning,
    NotMatryoshkaError,
    UnknownModelError,
)
from tests.conftest import TINY_NOMIC

SMALL, LARGE = "openai:text-embedding-3-small", "openai:text-embedding-3-large"
WORDS = "wordllama:l2-supercat-256"

TWO = f"""\
default = "words"

[profiles.words]
model = "{WORDS}"
dimensions = 64

[profiles.small]
model = "{SMALL}"
api_key_env = "SECOND_KEY"
timeout = 7.0
"""


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    """A working folder with nothing in it or above it, and a home of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return folder


@pytest.fixture
def write(work):
    def write(text, name="mrlclient.toml"):
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def settings_of(embedder):
    return embedder._engine.documents.main.provider._settings


# Which file and which profile.


def test_the_default_profile(write):
    write(TWO)
    with Embedder.from_config() as embedder:
        assert (embedder.model, embedder.dimensions) == (WORDS, 64)


def test_a_named_profile(write, keys, monkeypatch):
    path = write(TWO, "elsewhere/other.toml")
    with pytest.raises(ConfigurationError, match=r"There is no file ~nobody-of-that-name/x.toml"):
        Embedder.from_config("~nobody-of-that-name/x.toml")
    for given in (path, str(path), path.relative_to(Path.cwd())):
        with Embedder.from_config(given, profile="small") as embedder:
            assert embedder.to_dict() == {"model": SMALL, "api_key_env": "SECOND_KEY", "timeout": 7.0}
    monkeypatch.setenv("MRLCLIENT_CONFIG", str(path))
    monkeypatch.setenv("MRLCLIENT_PROFILE", "small")
    assert Embedder.from_config().model == SMALL
    assert Embedder.from_config(profile="words").model == WORDS
    monkeypatch.setenv("MRLCLIENT_PROFILE", "")
    assert Embedder.from_config().model == WORDS


def test_one_profile_alone_is_the_default(write):
    write(f'[tool.mrlclient.profiles.only]\nmodel = "{WORDS}"\n', "pyproject.toml")
    assert Embedder.from_config().model == WORDS


def test_a_subclass_stays_one(write):
    class Mine(Embedder):
        pass

    write(TWO)
    assert type(Mine.from_config()) is Mine


@pytest.mark.parametrize(
    ("text", "profile", "message"),
    [
        (TWO, "smal", r"mrlclient.toml:3: there is no profile 'smal'. Did you mean 'small'\?"),
        ("[profiles]\na = 7\n", None, "mrlclient.toml:2: profiles.a: must be a table"),
        (TWO, "zzz", "there is no profile 'zzz'. There are 'words', 'small'"),
        (TWO.replace('default = "words"', ""), None, "several profiles: 'words', 'small'. Name one"),
        (
            TWO.replace('default = "words"', 'default = "wrds"'),
            None,
            r"mrlclient.toml:1: there is no profile 'wrds'. Did you mean 'words'",
        ),
        ("", None, r"mrlclient.toml:1: there are no profiles. Write one: \[profiles.NAME\]"),
        ("\n[profiles]\n", None, "mrlclient.toml:2: there are no profiles"),
        ("", "words", "there are no profiles"),
        ("profiles = 7\n", None, "there are no profiles"),
        ("[profile.words]\n", None, "there are no profiles"),
    ],
)
def test_no_such_profile(text, profile, message, write):
    write(text)
    with pytest.raises(ConfigurationError, match=message):
        Embedder.from_config(profile=profile)


def test_the_variable_names_no_profile(write, monkeypatch):
    write(TWO)
    monkeypatch.setenv("MRLCLIENT_PROFILE", "prod")
    with pytest.raises(ConfigurationError, match=r"no profile 'prod'. MRLCLIENT_PROFILE names it."):
        Embedder.from_config()


def test_without_a_file(monkeypatch):
    with pytest.raises(ConfigurationError, match=r"There is no mrlclient.toml here.*MRLCLIENT_MODEL"):
        Embedder.from_config()
    monkeypatch.setenv("MRLCLIENT_MODEL", " ")
    with pytest.raises(ConfigurationError, match=r"There is no mrlclient.toml here"):
        Embedder.from_config()
    monkeypatch.setenv("MRLCLIENT_MODEL", WORDS)
    assert Embedder.from_config().to_dict() == {"model": WORDS}
    monkeypatch.setenv("MRLCLIENT_DIMENSIONS", "64,256")
    assert Embedder.from_config().to_dict() == {"model": WORDS, "dimensions": [64, 256]}
    with pytest.raises(ConfigurationError, match=r"There is no profile 'prod', for there is no mrlclient.toml"):
        Embedder.from_config(profile="prod")


# What the environment replaces.


@pytest.mark.parametrize("value", ["sixty", "64.0", "-1", "1_0", "٦٤", "64;32", ",", "9" * 5000])
def test_dimensions_that_are_none(value, monkeypatch, write):
    write(TWO)
    monkeypatch.setenv("MRLCLIENT_DIMENSIONS", value)
    with pytest.raises(ConfigurationError, match="MRLCLIENT_DIMENSIONS must be a whole number, or several"):
        Embedder.from_config()


def test_dimensions_out_of_the_environment(monkeypatch, write):
    write(TWO)
    monkeypatch.setenv("MRLCLIENT_DIMENSIONS", " 128, 64 ")
    assert Embedder.from_config().to_dict()["dimensions"] == [128, 64]
    monkeypatch.setenv("MRLCLIENT_DIMENSIONS", "")
    assert Embedder.from_config().dimensions == 64
    monkeypatch.setenv("MRLCLIENT_DIMENSIONS", "512")
    with pytest.raises(DimensionsOutOfRangeError, match="MRLCLIENT_DIMENSIONS: ") as caught:
        Embedder.from_config()
    assert (caught.value.dimensions, caught.value.native_dimensions) == (512, 256)
    monkeypatch.setenv("MRLCLIENT_DIMENSIONS", "0")
    with pytest.raises(ConfigurationError, match="MRLCLIENT_DIMENSIONS: dimensions: must be more than 0"):
        Embedder.from_config()


SERVER = """\
[profiles.ours]
model = "openai:text-embedding-3-small"
dimensions = 512
api_key_env = "SECOND_KEY"
base_url = "https://gateway.example/v1"
timeout = 7.0
deployment = "mine"
"""


def test_a_model_of_another_provider_takes_no_setting_along(monkeypatch, write, keys, emulator):
    """A key must not get to another vendor."""
    write(SERVER)
    monkeypatch.setenv("MRLCLIENT_MODEL", "voyage:voyage-4")
    with Embedder.from_config() as embedder:
        assert embedder.to_dict() == {"model": "voyage:voyage-4", "dimensions": 512}
        assert settings_of(embedder)["api_key_env"] is None
        assert embedder._engine.documents.main.provider.origin == "https://api.voyageai.com/v1"
    monkeypatch.setenv("MRLCLIENT_MODEL", "nothing:voyage-4")
    with pytest.raises(ConfigurationError, match="MRLCLIENT_MODEL: There is no provider 'nothing'"):
        Embedder.from_config()


def test_another_model_of_the_provider_stays_with_its_server(monkeypatch, write, keys):
    """Texts that go to a server of one's own must not get to the vendor. What is the one model's is not the other's."""
    write(SERVER)
    monkeypatch.setenv("MRLCLIENT_MODEL", LARGE)
    with Embedder.from_config() as embedder:
        assert embedder.to_dict() == {
            "model": LARGE,
            "dimensions": 512,
            "api_key_env": "SECOND_KEY",
            "base_url": "https://gateway.example/v1",
            "timeout": 7.0,
        }


def test_the_same_model_keeps_everything(monkeypatch, write, keys):
    write(SERVER)
    monkeypatch.setenv("MRLCLIENT_MODEL", SMALL)
    assert settings_of(Embedder.from_config())["deployment"] == "mine"


def test_another_model_has_not_the_files_of_the_first(monkeypatch, write):
    write(f'[profiles.a]\nmodel = "nomic:nomic-embed-text-v1.5"\nmodel_path = "{TINY_NOMIC.as_posix()}"\nthreads = 1\n')
    monkeypatch.setenv("MRLCLIENT_MODEL", "nomic:nomic-embed-text-v1")
    assert Embedder.from_config().to_dict() == {"model": "nomic:nomic-embed-text-v1", "threads": 1}


def test_a_declaration_belongs_to_its_model(monkeypatch, write, keys):
    write('[profiles.a]\nmodel = "openai:mine"\nspec = { native_dimensions = 8, matryoshka = true }\n')
    assert Embedder.from_config().dimensions == 8
    monkeypatch.setenv("MRLCLIENT_MODEL", SMALL)
    assert Embedder.from_config().dimensions == 1536


def test_a_fallback_of_another_space_is_refused(monkeypatch, write, keys):
    write(f'[profiles.a]\nmodel = "{SMALL}"\nfallback = ["{SMALL}"]\n')
    monkeypatch.setenv("MRLCLIENT_MODEL", WORDS)
    with pytest.raises(IncompatibleSpaceError, match="cannot stand in for"):
        Embedder.from_config()


def test_the_environment_may_name_a_declared_model(monkeypatch, write, keys):
    write('[models."openai:mine"]\nnative_dimensions = 8\nmatryoshka = true\n')
    monkeypatch.setenv("MRLCLIENT_MODEL", "openai:mine")
    assert Embedder.from_config().dimensions == 8


def test_a_profile_without_a_model_takes_that_of_the_environment(monkeypatch, write):
    write("[profiles.a]\ndimensions = 64\n")
    with pytest.raises(ConfigurationError, match=r"mrlclient.toml:1: model: is missing"):
        Embedder.from_config()
    monkeypatch.setenv("MRLCLIENT_MODEL", WORDS)
    assert Embedder.from_config().to_dict() == {"model": WORDS, "dimensions": 64}


# What a profile says.


def test_paths_are_relative_to_the_file(write, monkeypatch, tmp_path):
    path = write(
        '[profiles.a]\nmodel = "nomic:nomic-embed-text-v1.5"\nmodel_path = "model"\ncache = "kept/vectors.db"\n'
        'canary = { path = "canary.json" }\n'
        '[profiles.b]\nmodel = "nomic:nomic-embed-text-v1.5"\nmodel_path = "model"\ncache = "sqlite:~/vectors.db"\n'
        '[profiles.c]\nmodel = "wordllama:l2-supercat-256"\ncache = "memory:"\n',
        "elsewhere/mrlclient.toml",
    )
    folder = path.parent
    (folder / "model").symlink_to(TINY_NOMIC)
    (folder / "kept").mkdir()
    with Embedder.from_config(path, "a") as embedder:
        assert embedder.to_dict() == {
            "model": "nomic:nomic-embed-text-v1.5",
            "model_path": str(folder / "model"),
            "cache": f"sqlite:{folder / 'kept' / 'vectors.db'}",
            "canary": {"path": str(folder / "canary.json")},
        }
        rows = embedder.embed_documents(["whales"])
    assert (folder / "kept" / "vectors.db").exists()
    assert (folder / "canary.json").exists()
    with Embedder.from_config(path.relative_to(Path.cwd()), "a") as embedder:
        np.testing.assert_array_equal(rows, embedder.embed_documents(["whales"]))
    assert Embedder.from_config(path, "b").to_dict()["cache"] == f"sqlite:{tmp_path / 'vectors.db'}"
    assert Embedder.from_config(path, "c").to_dict()["cache"] == "memory:"


def test_ranges_of_another_model_are_left_out(write, keys, monkeypatch):
    path = write(
        '[profiles.a]\nmodel = "openai:text-embedding-3-small"\ndimensions = 512\ndtype = "int8"\n'
        "ranges = { limit = 0.25, dimensions = 512 }\n"
    )
    assert Embedder.from_config().to_dict()["ranges"] == {"limit": 0.25, "dimensions": 512}
    monkeypatch.setenv("MRLCLIENT_MODEL", LARGE)
    values = Embedder.from_config().to_dict()
    assert (values["dtype"], "ranges" in values) == ("int8", False)
    monkeypatch.delenv("MRLCLIENT_MODEL")
    monkeypatch.setenv("MRLCLIENT_DIMENSIONS", "1024")
    with pytest.raises(ConfigurationError, match=rf"{path.name}:5: These ranges were calibrated at 512"):
        Embedder.from_config()


def test_a_declared_model_is_named_by_its_address(write, keys, emulator):
    write(
        '[models."openai:mine"]\nnative_dimensions = 1536\nmatryoshka = true\nserver_dimensions = "any"\n'
        'space = "openai/text-embedding-3-small"\nanswers_as = ["text-embedding-3-small"]\n'
        '[profiles.a]\nmodel = "openai:mine"\ndeployment = "text-embedding-3-small"\n'
        '[profiles.b]\nmodel = "openai:text-embedding-3-small"\n'
        'fallback = ["openai:mine"]\nquery_model = { model = "openai:mine", timeout = 3 }\n'
    )
    with Embedder.from_config(profile="a") as mine, Embedder.from_config(profile="b") as both:
        np.testing.assert_array_equal(mine.embed_documents(["whales"]), both.embed_documents(["whales"]))
        assert both.to_dict()["query_model"]["spec"]["space"] == "openai/text-embedding-3-small"


def test_infinity_and_arrays_of_tables(write, keys):
    write(
        f'[profiles.a]\nmodel = "{SMALL}"\n[profiles.a.limits]\nrequests_per_minute = inf\nmax_in_flight = 3\n'
        f'[[profiles.a.fallback]]\nmodel = "{SMALL}"\ntimeout = 2\n[[profiles.a.fallback]]\nmodel = "{SMALL}"\n'
    )
    with Embedder.from_config() as embedder:
        assert embedder._arguments["limits"].requests_per_minute == math.inf
        assert embedder.to_dict()["fallback"] == [{"model": SMALL, "timeout": 2}, SMALL]


def test_a_narrow_width_warns_once(write):
    write(f'[profiles.a]\nmodel = "{WORDS}"\ndimensions = 8\n')
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Embedder.from_config().close()
    assert [warning.category for warning in told] == [NarrowDimensionsWarning]
    assert told[0].filename == __file__


def test_pydantic_is_needed(write, monkeypatch):
    write(TWO)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mrlclient\[config\]'"):
        Embedder.from_config()


# What is wrong with it.

BAD = """\
defualt = "a"

[models."openai:mine"]
native_dimensions = 0
matryoshka = true

[models.mine]
native_dimensions = 8

[profiles.a]
model = "openai:text-embedding-3-small"
dimension = 512
max_attempts = "5"
deadline = 0
on_narrow = "wran"
limits = { max_in_flight = 0, requests = 3 }
fallback = [
  "openai:text-embedding-3-smal",
  { model = "openai:text-embedding-3-small", timeout = -1 },
]

[profiles.b]
model = "wordllama:l2-supercat-256"
dimensions = 512
cache = "postgres://localhost"

[profiles.b.canary]
path = "canary.json"
every = 0

[profiles.c]
truncate_input = true
model = "openai:text-embedding-ada-002"
dimensions = 256
api_key_env = "NOT_SET"
"""

TOLD = [
    (1, "defualt: there is no such key. Did you mean 'default'?"),
    (4, "native_dimensions"),
    (7, "must be named by its address"),
    (12, "dimension: there is no such key. Did you mean 'dimensions'?"),
    (13, "max_attempts: must be a whole number"),
    (14, "deadline: must be a positive number of seconds, not 0."),
    (15, "on_narrow: must be 'error', 'warn' or 'allow'"),
    (16, "limits.requests: there is no such key"),
    (16, "limits.max_in_flight: must be a positive integer."),
    (18, "fallback[0].model: The catalogue has no model"),
    (19, "fallback[1].timeout: must be a positive number of seconds, not -1."),
    (24, "dimensions: "),
    (25, "cache: There is no cache at postgres:// addresses"),
    (29, "canary.every: must be a positive number of seconds, not 0."),
    (32, "truncate_input: openai does not cut over-long texts"),
    (34, "dimensions: openai:text-embedding-ada-002 is not a Matryoshka model"),
]


@pytest.mark.parametrize("profile", ["a", "b", "c"])
def test_all_that_is_wrong_with_a_file_is_told_at_once(profile, write, monkeypatch, keys):
    path = write(BAD)
    monkeypatch.setenv("NOT_SET", "sk-there")
    with pytest.raises(ConfigurationError) as caught:
        Embedder.from_config(profile=profile)
    head, *lines = str(caught.value).splitlines()
    assert f"{len(TOLD)} reasons" in head
    assert sorted(lines) == sorted(set(lines))
    for number, message in TOLD:
        assert any(line.startswith(f"{path}:{number}: ") and message in line for line in lines), (number, message)
    assert len(lines) == len(TOLD)


def test_a_fault_in_another_profile_does_no_harm(write, keys):
    write(TWO + '[profiles.third]\nmodel = "nomic:nomic-embed-text-v1.5"\nmodel_path = "not-on-this-machine"\n')
    assert Embedder.from_config(profile="small").model == SMALL


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (
            'model = "openai:text-embedding-3-smal"',
            UnknownModelError,
            r':2: The catalogue has no.*\[models."openai:text',
        ),
        ('model = "openai:text-embedding-ada-002"\ndimensions = 3', NotMatryoshkaError, ":3: .*not a Matryoshka"),
        (f'model = "{SMALL}"\napi_key_env = "NOT_SET"', MissingCredentialsError, ":3: No key for openai. Set NOT_SET"),
        (
            f'model = "{SMALL}"\nbase_url = "https://x.example"',
            MissingCredentialsError,
            ":3: base_url is given without",
        ),
        (f'model = "{SMALL}"\nfallback = ["{WORDS}"]', IncompatibleSpaceError, ":1: .*cannot stand in"),
    ],
)
def test_one_problem_alone_keeps_its_kind(line, kind, message, write, keys):
    write(f"[profiles.a]\n{line}\n")
    with pytest.raises(kind, match=f"mrlclient.toml{message}"):
        Embedder.from_config()


KEY = "sk-proj-Canary0123456789Kettle"


@pytest.mark.parametrize(
    "text",
    [
        f'api_key = "{KEY}"',
        f'api_key_env = "{KEY}"',
        f'api_key_env = "{KEY}"\nzzz = 3',
        f'dimensions = "{KEY}"',
        f'on_narrow = "{KEY}"',
        f'cache = 7\nlimits = {{ shared = "{KEY}" }}',
        f'fallback = [{{ model = 3, token = "{KEY}" }}]',
        f'base_url = "https://{KEY}@localhost"',
        f'broken = "{KEY}',
        f"broken = {KEY}",
    ],
)
def test_a_key_in_a_file_is_never_shown(text, write, keys):
    write(f'[profiles.a]\nmodel = "{SMALL}"\n{text}\n')
    with pytest.raises(ConfigurationError, match=r"mrlclient.toml:\d") as caught:
        Embedder.from_config()
    error = caught.value
    assert "Canary" not in f"{error} {error!r} {vars(error)} {error.__context__} {error.__cause__}"
    trace = error.__traceback__.tb_next
    while trace is not None:
        assert "Canary" not in repr(trace.tb_frame.f_locals)
        trace = trace.tb_next
