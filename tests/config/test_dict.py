"""`Embedder.from_dict` and `to_dict`: the values of a profile and the embedder are one thing."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys

import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import (
    Canary,
    ConfigurationError,
    DimensionsOutOfRangeError,
    Embedder,
    IncompatibleSpaceError,
    Limits,
    MissingCredentialsError,
    MissingExtraError,
    ModelSpec,
    Nomic,
    NotMatryoshkaError,
    OpenAI,
    UnknownModelError,
    UnknownProviderError,
    Voyage,
    WordLlama,
    registry,
)
from mrlclient.cache import MemoryCache
from mrlclient.config import tables
from tests.conftest import TINY_NOMIC

SMALL = "openai:text-embedding-3-small"
WORDS = "wordllama:l2-supercat-256"
MINE = {"native_dimensions": 1536, "matryoshka": True, "server_dimensions": "any"}

#: A profile for every key there is, written as shortly as it can be. `HERE` is the test's folder.
PROFILES = {
    "model": {"model": SMALL},
    "dimensions": {"model": SMALL, "dimensions": 512},
    "dimensions, several": {"model": SMALL, "dimensions": [1024, 512]},
    "on_narrow": {"model": SMALL, "dimensions": 2, "on_narrow": "allow"},
    "truncate_input": {"model": WORDS, "truncate_input": True},
    "cache, a file": {"model": WORDS, "cache": "sqlite:HERE/vectors.db"},
    "cache, memory": {"model": WORDS, "cache": "memory:"},
    "cache, a server": {"model": WORDS, "cache": "redis://localhost:1/0"},
    "fetch": {"model": WORDS, "fetch": "native"},
    "query_model": {"model": "voyage:voyage-4-large", "query_model": "voyage:voyage-4-lite"},
    "query_model, a table": {
        "model": "voyage:voyage-4-large",
        "query_model": {"model": "voyage:voyage-4-lite", "timeout": 3.0},
    },
    "endpoints": {
        "model": SMALL,
        "endpoints": [SMALL, {"model": SMALL, "api_key_env": "SECOND_KEY", "base_url": "https://localhost/v1"}],
    },
    "fallback": {
        "model": SMALL,
        "fallback": [{"model": "openai:mine", "spec": MINE | {"space": "openai/text-embedding-3-small"}}],
    },
    "limits": {
        "model": SMALL,
        "limits": {"requests_per_minute": 100.0, "max_in_flight": 3, "shared": "valkey://localhost:1"},
    },
    "limits, none": {"model": SMALL, "limits": {"requests_per_minute": "inf", "tokens_per_minute": "inf"}},
    "canary": {"model": WORDS, "canary": {"path": "HERE/canary.json", "every": 60.0, "threshold": 0.99}},
    "dtype": {"model": WORDS, "dtype": "ubinary"},
    "ranges": {"model": WORDS, "dtype": "int8", "ranges": {"limit": 0.25, "dimensions": 256}},
    "quantization": {"model": "voyage:voyage-4", "dtype": "int8", "quantization": "server"},
    "max_attempts": {"model": WORDS, "max_attempts": 2},
    "max_concurrency": {"model": WORDS, "max_concurrency": 7},
    "deadline": {"model": WORDS, "deadline": 9.5},
    "spec": {"model": "openai:mine", "spec": MINE},
    "spec, every field": {
        "model": "nomic:mine",
        "spec": {
            "native_dimensions": 768,
            "matryoshka": True,
            "space": "ours",
            "recipe": "center_slice_l2",
            "smallest_evaluated": 64,
            "scores": [[768, 62.28], [64, 56.1]],
            "score_name": "MTEB",
            "unit_length": True,
            "prompts": {"query": "q: ", "document": "d: "},
            "default_input_type": "document",
            "max_inputs": 3,
            "max_input_tokens": 512,
            "max_request_tokens": 1000,
            "requests_per_minute": 10,
            "tokens_per_minute": 100,
            "usd_per_million_tokens": 0.5,
            "answers_as": ["mine-v2"],
            "repository": "me/mine",
            "revision": "abc",
            "checksums": {"tokenizer.json": "00"},
            "tokenizer": "hub:me/mine",
            "status": "active",
        },
    },
    "spec, widths of the server": {
        "model": "voyage:mine",
        "spec": {"native_dimensions": 8, "matryoshka": True, "server_dimensions": [4, 8], "server_cut_is_prefix": True},
    },
    "spec, types of the server": {
        "model": "voyage:mine",
        "spec": {"native_dimensions": 512, "matryoshka": False, "server_dtypes": ["int8", "ubinary"]},
    },
    "openai": {
        "model": SMALL,
        "api_key_env": "SECOND_KEY",
        "base_url": "https://localhost/v1",
        "timeout": 7.0,
        "deployment": "mine",
    },
    "voyage": {
        "model": "voyage:voyage-4",
        "api_key_env": "SECOND_KEY",
        "base_url": "https://localhost/v1",
        "timeout": 7.0,
    },
    "nomic": {
        "model": "nomic:nomic-embed-text-v1.5",
        "model_path": str(TINY_NOMIC),
        "onnx_file": "onnx/model_quantized.onnx",
        "revision": "abc",
        "threads": 2,
    },
}


def at(folder, values):
    """The profile with a folder put in, which may have to be escaped."""
    return json.loads(json.dumps(values).replace("HERE", json.dumps(str(folder))[1:-1]))


def parts(embedder):
    """What an embedder is made of, as far as it can be compared."""
    engine = embedder._engine
    endpoints = [*engine.documents.endpoints, *engine.queries.endpoints]
    known = embedder._arguments
    return (
        [(each.provider.spec, each.provider.identity, each.provider.settings(), each.label) for each in endpoints],
        [each.provider.account for each in endpoints],
        engine.policy,
        engine.widths,
        (engine.truncate_input, engine.fetch_native, engine.owns_cache),
        (known["limits"] or Limits(), repr(known["canary"])),
    )


@pytest.mark.parametrize("values", PROFILES.values(), ids=PROFILES)
def test_round_trip(values, keys, tmp_path):
    values = at(tmp_path, values)
    with Embedder.from_dict(values) as embedder:
        assert embedder.to_dict() == values
        assert json.loads(json.dumps(embedder.to_dict(), allow_nan=False)) == values
        with Embedder.from_dict(embedder.to_dict()) as other:
            assert parts(other) == parts(embedder)


def test_every_argument_of_an_embedder_has_a_key():
    parameters = inspect.signature(Embedder).parameters
    assert {"model", *tables.EMBEDDER} == set(parameters)
    tried = {key for values in PROFILES.values() for key in values}
    assert set(parameters) <= tried


@pytest.mark.parametrize("provider", [OpenAI, Voyage, Nomic, WordLlama])
def test_every_plain_argument_of_a_provider_has_a_key(provider):
    keys = set(tables.model_kinds(provider)) - {"spec"}
    assert set(inspect.signature(provider).parameters) - keys <= {"api_key", "client", "count_tokens"}
    tried = {key for values in PROFILES.values() if values["model"].startswith(provider.name) for key in values}
    assert keys <= tried


def test_every_field_of_a_model_has_a_key():
    fields = set(inspect.signature(ModelSpec).parameters) - {"provider", "name"}
    assert set(tables.spec_kinds()) == fields
    # Evidence is read where it was written down; nothing is decided by it, so that a profile does not carry it.
    assert {key for values in PROFILES.values() for key in values.get("spec", ())} == fields - {"sources"}


def test_limits_and_canaries_are_whole():
    assert set(tables.limits_kinds()) == set(inspect.signature(Limits).parameters)
    assert set(tables.canary_kinds()) == set(inspect.signature(Canary).parameters)


@given(
    st.fixed_dictionaries(
        {"model": st.just(WORDS)},
        optional={
            "dimensions": st.integers(1, 256) | st.lists(st.integers(1, 256), min_size=1, max_size=4),
            "on_narrow": st.sampled_from(["warn", "error", "allow"]),
            "truncate_input": st.booleans(),
            "fetch": st.sampled_from(["requested", "native"]),
            "query_model": st.just(WORDS),
            "fallback": st.lists(st.just(WORDS), max_size=2),
            "max_attempts": st.integers(1, 9),
            "max_concurrency": st.integers(1, 9),
            "deadline": st.floats(0.1, 1e6),
            "limits": st.fixed_dictionaries(
                {},
                optional={
                    "requests_per_minute": st.just("inf") | st.floats(1, 1e6),
                    "max_in_flight": st.integers(1, 99),
                },
            ),
        },
    )
)
def test_any_profile_is_written_as_it_was_read(values):
    values = {"on_narrow": "allow"} | values
    if values["on_narrow"] != "allow":
        values.pop("dimensions", None)
    with Embedder.from_dict(values) as embedder:
        written = embedder.to_dict()
    with Embedder.from_dict(written) as other:
        assert other.to_dict() == written
        assert parts(other) == parts(embedder)
    limits = written.pop("limits", {})
    assert all(values[key] == value for key, value in written.items())
    assert limits.items() <= values.get("limits", {}).items()


def test_bits_need_whole_bytes():
    with pytest.raises(DimensionsOutOfRangeError, match="no multiple of 8: take 96 or 104"):
        Embedder.from_dict({"model": WORDS, "dimensions": 100, "dtype": "binary"})


def test_what_was_made_in_code_is_written(keys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = ModelSpec(provider="openai", name="mine", native_dimensions=8, matryoshka=True)
    with Embedder(
        OpenAI(spec, api_key_env="SECOND_KEY", timeout=5),
        dimensions=(8, 4),
        cache="vectors.db",
        fallback=(spec,),
        limits=Limits(),
        canary=Canary("canary.json"),
        on_narrow="allow",
    ) as embedder:
        written = embedder.to_dict()
    assert written == {
        "model": "openai:mine",
        "spec": {"native_dimensions": 8, "matryoshka": True},
        "api_key_env": "SECOND_KEY",
        "timeout": 5,
        "dimensions": [8, 4],
        "on_narrow": "allow",
        "cache": f"sqlite:{tmp_path / 'vectors.db'}",
        "fallback": [{"model": "openai:mine", "spec": {"native_dimensions": 8, "matryoshka": True}}],
        "canary": {"path": str(tmp_path / "canary.json")},
    }
    monkeypatch.chdir("/")
    Embedder.from_dict(written).close()


def test_the_default_model_is_written(monkeypatch):
    """The environment of whoever reads it may name another."""
    monkeypatch.setenv("MRLCLIENT_MODEL", WORDS)
    assert Embedder().to_dict() == {"model": WORDS}


def test_an_alias_and_a_default_provider_are_their_address(keys):
    assert Embedder("voyageai:voyage-4").to_dict() == {"model": "voyage:voyage-4"}
    assert Embedder(Voyage("voyage-4")).to_dict() == {"model": "voyage:voyage-4"}
    aliased = ModelSpec(provider="voyageai", name="mine", native_dimensions=8, matryoshka=False)
    written = Embedder(Voyage(aliased)).to_dict()
    assert Embedder.from_dict(written).spec == aliased


def test_it_embeds(keys, emulator, tmp_path):
    values = {"model": SMALL, "dimensions": 512, "cache": str(tmp_path / "vectors.db"), "api_key_env": "SECOND_KEY"}
    with Embedder.from_dict(values) as embedder, Embedder.from_dict(embedder.to_dict()) as other:
        rows = embedder.embed_documents(["whales", "bread"])
        np.testing.assert_array_equal(rows, other.embed_documents(["whales", "bread"]))
    assert rows.shape == (2, 512)
    assert len(emulator.requests) == 1


def test_a_subclass_stays_one():
    class Mine(Embedder):
        pass

    assert type(Mine.from_dict({"model": WORDS})) is Mine


class Unknown(WordLlama):
    """A class that no address stands for."""


CANNOT = {
    "api_key": (lambda: Embedder(OpenAI(SMALL, api_key="sk-canary")), "api_key=.*cannot be written.*api_key_env="),
    "client": (lambda: Embedder(OpenAI(SMALL, client=openai.OpenAI(api_key="sk-canary"))), "client="),
    "count_tokens": (lambda: Embedder(OpenAI(SMALL, count_tokens=lambda texts: [1] * len(texts))), "count_tokens="),
    "cache": (lambda: Embedder(WORDS, cache=MemoryCache()), "cache is an object.*Give its address"),
    "a password": (lambda: Embedder(WORDS, cache="redis://me:sk-canary@localhost:1"), "cache is an address with"),
    "a shared password": (lambda: Embedder(WORDS, limits=Limits(shared="redis://:sk-canary@h")), "limits.shared is"),
    "a fallback": (lambda: Embedder(SMALL, fallback=[OpenAI(SMALL, api_key="sk-canary")]), "api_key="),
    "a class": (lambda: Embedder(Unknown()), "Unknown.*entry point"),
}


@pytest.mark.parametrize(("make", "message"), CANNOT.values(), ids=CANNOT)
def test_what_cannot_be_written(make, message, keys):
    with make() as embedder, pytest.raises(ConfigurationError, match=f"(?s){message}") as caught:
        embedder.to_dict()
    assert "canary" not in str(caught.value)


class Acme(WordLlama):
    """A third party's provider, which takes plain values."""

    name = "acme"
    find_spec = classmethod(
        lambda cls, name: ModelSpec(provider="acme", name=name, native_dimensions=256, matryoshka=True)
    )

    def __init__(self, model, *, region: str = "eu", api_token: str = "", level: int = 1):
        super().__init__(model)
        self.region, self.level = region, level


class Told(Acme):
    """One that says them."""

    def settings(self):
        return {"region": self.region, "level": self.level}


@pytest.fixture(params=[Acme, Told])
def acme(request, monkeypatch):
    found = registry.provider_class
    monkeypatch.setattr(registry, "provider_class", lambda name: request.param if name == "acme" else found(name))
    # WordLlama's own `settings` says nothing: what a third party inherits here is the base's.
    if request.param is Acme:
        monkeypatch.setattr(Acme, "settings", registry.provider_class("wordllama").__mro__[2].settings, raising=False)
    return request.param


def test_a_third_partys_provider(acme):
    assert Embedder.from_dict({"model": "acme:letters"}).to_dict() == {"model": "acme:letters"}
    values = {"model": "acme:letters", "region": "us"}
    embedder = Embedder.from_dict(values)
    assert embedder._engine.documents.main.provider.region == "us"
    if acme is Told:
        assert embedder.to_dict() == values
    else:
        with pytest.raises(ConfigurationError, match=r"Acme does not say its settings.*define settings"):
            embedder.to_dict()
    with pytest.raises(ConfigurationError, match=r"api_token: a key does not stand in a profile") as caught:
        Embedder.from_dict(values | {"api_token": "secret-canary"})
    assert "canary" not in str(caught.value)


def test_a_constructor_that_is_inherited_has_the_same_keys():
    """Its annotations mean what they mean where it was written, which is another module than this."""

    class Mine(Nomic):
        pass

    Mine.__module__ = "json"
    assert tables.kinds_of(Mine) == tables.kinds_of(Nomic)
    assert tables.paths_of(Mine) == {"model_path"}


def test_a_secret_that_a_provider_tells_is_not_written(monkeypatch, keys):
    monkeypatch.setattr(OpenAI, "settings", lambda self: {"api_token": "canary"})
    with pytest.raises(ConfigurationError, match=r"api_token=. is a secret") as caught:
        Embedder(OpenAI(SMALL)).to_dict()
    assert "canary" not in str(caught.value)


REFUSED = {
    "no mapping": ([], "A profile is a mapping"),
    "nothing": ({}, "^model: is missing|model: is missing"),
    "a near miss": ({"model": WORDS, "dimension": 3}, "dimension: there is no such key. Did you mean 'dimensions'"),
    "a shorter word": ({"model": WORDS, "dims": 3}, "dims: there is no such key. Did you mean 'dimensions'"),
    "no near miss": ({"model": WORDS, "zzz": 3}, "zzz: there is no such key. Known are .*cache.*dimensions"),
    "another provider's key": ({"model": WORDS, "base_url": "https://x"}, "base_url: there is no such key"),
    "a key of no provider": ({"model": "opnai:x", "base_url": "https://x", "zz": 1}, "zz: there is no such key"),
    "a string for a number": ({"model": WORDS, "dimensions": "64"}, "dimensions: must be a whole number or a list"),
    "a list with one": ({"model": WORDS, "dimensions": [64, "32"]}, r"dimensions\[1\]: must be a whole number"),
    "zero": ({"model": WORDS, "dimensions": 0}, "dimensions: must be more than 0"),
    "true for a number": ({"model": WORDS, "max_attempts": True}, "max_attempts: must be a whole number"),
    "a bound": ({"model": WORDS, "max_attempts": 0}, "max_attempts must be a positive integer"),
    "a number for a truth": ({"model": WORDS, "truncate_input": 1}, "truncate_input: must be true or false"),
    "a choice": ({"model": WORDS, "on_narrow": "wran"}, "on_narrow: must be 'error', 'warn' or 'allow'"),
    "an endless deadline": ({"model": WORDS, "deadline": math.inf}, "deadline must be a positive number"),
    "a model that is none": ({"model": 7}, "model: must be a string"),
    "limits": ({"model": WORDS, "limits": {"max_in_flight": 0}}, "max_in_flight must be a positive integer"),
    "limits, a key": ({"model": WORDS, "limits": {"rpm": 1}}, "limits.rpm: there is no such key"),
    "limits, no table": ({"model": WORDS, "limits": 7}, "limits: must be a table"),
    "canary": ({"model": WORDS, "canary": {"path": "x", "threshold": 2}}, "threshold must be a cosine"),
    "dtype": ({"model": WORDS, "dtype": "int4"}, "dtype: must be 'float32', 'float16', 'int8'"),
    "ranges": (
        {"model": WORDS, "dtype": "int8", "ranges": {"limit": 0, "dimensions": 256}},
        "limit must be a positive",
    ),
    "ranges, no table": ({"model": WORDS, "dtype": "int8", "ranges": 0.25}, "ranges: must be a table"),
    "ranges without a width": ({"model": WORDS, "dtype": "int8", "ranges": {"limit": 1.0}}, "dimensions: is missing"),
    "ranges of another width": (
        {"model": WORDS, "dimensions": 64, "dtype": "int8", "ranges": {"limit": 0.25, "dimensions": 256}},
        "calibrated at 256 dimensions, and the vectors have 64",
    ),
    "ranges of no type": (
        {"model": WORDS, "ranges": {"limit": 0.25, "dimensions": 256}},
        "float32 has no ranges",
    ),
    "canary without a path": ({"model": WORDS, "canary": {}}, "canary.path: is missing"),
    "spec": ({"model": "openai:x", "spec": {"native_dimensions": 0, "matryoshka": True}}, "native_dimensions must be"),
    "spec, a key": ({"model": "openai:x", "spec": {"native": 3}}, "spec.native: there is no such key"),
    "spec, missing": ({"model": "openai:x", "spec": {"matryoshka": True}}, "spec.native_dimensions: is missing"),
    "spec, scores": (
        {"model": "openai:x", "spec": {"native_dimensions": 3, "matryoshka": True, "scores": [[1]]}},
        "scores must be pairs",
    ),
    "an endpoint": ({"model": SMALL, "endpoints": [SMALL, 7]}, r"endpoints\[1\]: must be a string or a table"),
    "an endpoint's key": (
        {"model": SMALL, "endpoints": [{"model": SMALL, "base": "x"}]},
        r"endpoints\[0\].base: there is no such key. Did you mean 'base_url'",
    ),
    "timeout": ({"model": SMALL, "timeout": 0}, "timeout must be a positive number"),
    "a folder without a model": ({"model": "nomic:nomic-embed-text-v1.5", "model_path": "/"}, "has no tokenizer.json"),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(values, message, keys):
    with pytest.raises(ConfigurationError, match=f"(?s){message}"):
        Embedder.from_dict(values)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"model": "opnai:text-embedding-3-small"}, UnknownProviderError),
        ({"model": "openai:text-embeding-3-small"}, UnknownModelError),
        ({"model": "text-embedding-3-small"}, UnknownModelError),
        ({"model": SMALL, "dimensions": 4096}, DimensionsOutOfRangeError),
        ({"model": "openai:text-embedding-ada-002", "dimensions": 256}, NotMatryoshkaError),
        ({"model": SMALL, "fallback": [WORDS]}, IncompatibleSpaceError),
        ({"model": SMALL, "api_key_env": "NOT_SET"}, MissingCredentialsError),
        ({"model": SMALL, "base_url": "https://localhost"}, MissingCredentialsError),
    ],
)
def test_an_error_keeps_its_kind(values, kind, keys):
    with pytest.raises(kind):
        Embedder.from_dict(values)


def test_all_that_is_wrong_is_told_at_once(keys):
    values = {
        "model": SMALL,
        "cash": "memory:",
        "dimensions": "many",
        "timeout": -1,
        "limits": {"max_in_flight": 0, "requests_per_minute": -1},
        "fallback": ["openai:nothing", {"model": SMALL, "timeout": "long"}],
    }
    with pytest.raises(ConfigurationError) as caught:
        Embedder.from_dict(values)
    for place in (
        "cash: ",
        "dimensions: ",
        "\ntimeout: ",
        "limits.max_in_flight: ",
        "limits.requests_per_minute: ",
        "fallback[0].model: ",
        "fallback[1].timeout: ",
    ):
        assert str(caught.value).count(place) == 1


@pytest.mark.parametrize("name", ["api_key", "api_key_env"])
def test_what_was_refused_is_not_missed_as_well(name):
    """Without a key there would be more to say, of the base URL and of the environment."""
    for more in ({}, {"base_url": "https://localhost/v1"}, {"timeout": 3}):
        with pytest.raises(ConfigurationError) as caught:
            Embedder.from_dict({"model": SMALL, name: "sk-x"} | more)
        assert len(str(caught.value).splitlines()) == 1
        assert str(caught.value).startswith(f"{name}: ")


KEY = "sk-proj-Canary0123456789Kettle"


@pytest.mark.parametrize(
    "values",
    [
        {"model": SMALL, "api_key": KEY},
        {"model": SMALL, "api_key_env": KEY},
        {"model": SMALL, "api_key_env": "jina_Canary0123456789Kettle"},
        {"model": SMALL, "api_key_env": "pa-Canary0123456789Kettle", "timeout": 0},
        {"model": SMALL, "fallback": [{"model": SMALL, "api_key": KEY}]},
        {"model": SMALL, "query_model": {"model": SMALL, "api_key_env": KEY}},
        {"model": SMALL, "api_key_env": 7, "dimensions": KEY, "on_narrow": KEY, "limits": KEY, "canary": {"path": 3}},
        {"model": SMALL, "base_url": f"https://me:{KEY}@localhost"},
        {"model": SMALL, "limits": {"shared": f"http://{KEY}"}},
        {"model": WORDS, "token": KEY},
    ],
)
def test_a_key_is_refused_and_never_shown(values, keys):
    with pytest.raises(ConfigurationError) as caught:
        Embedder.from_dict(values)
    error = caught.value
    assert "Canary" not in f"{error} {error!r} {error.__context__!r} {error.__cause__!r} {vars(error)}"
    trace = error.__traceback__.tb_next
    while trace is not None:
        assert "Canary" not in repr(trace.tb_frame.f_locals)
        trace = trace.tb_next


def test_the_refusal_says_what_to_write(keys):
    with pytest.raises(ConfigurationError, match='api_key_env = "VOYAGE_API_KEY"'):
        Embedder.from_dict({"model": "voyage:voyage-4", "api_key": KEY})
    with pytest.raises(ConfigurationError, match=r"name of an environment variable.*such as OPENAI_API_KEY"):
        Embedder.from_dict({"model": SMALL, "api_key_env": KEY})


def test_a_variable_in_small_letters_may_be_named_where_it_is(keys, monkeypatch, emulator):
    monkeypatch.setenv("my_key", emulator.openai_key)
    with Embedder.from_dict({"model": SMALL, "api_key_env": "my_key"}) as embedder:
        assert embedder.to_dict() == {"model": SMALL, "api_key_env": "my_key"}


def test_pydantic_is_needed_to_read_and_not_to_write(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert Embedder(WORDS, dimensions=64).to_dict() == {"model": WORDS, "dimensions": 64}
    with pytest.raises(MissingExtraError, match=r"pip install 'mrlclient\[config\]'"):
        Embedder.from_dict({"model": WORDS})


def test_pydantic_is_imported_only_then():
    code = "import sys; from mrlclient import Embedder; Embedder().close(); print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
