import dataclasses
import pickle
import tomllib
from importlib import resources
from typing import get_args

import pytest

from mrlclient import ConfigurationError, ModelSpec, UnknownModelError, UnknownProviderError, catalogue
from mrlclient.models import find_model
from mrlclient.providers._credentials import check_base_url
from mrlclient.registry import find_spec, provider_class
from mrlclient.servers import Cut

RAW = tomllib.loads(resources.files("mrlclient").joinpath("catalogue.toml").read_text("utf-8"))
SPECS = list(catalogue().models.values())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.address)
def test_every_value_has_a_source_and_a_date(spec):
    row = next(r for r in RAW["model"] if (r["provider"], r["name"]) == (spec.provider, spec.name))
    assert set(spec.sources) == set(row) - {"provider", "name", "sources"}
    assert all(source.endswith(")") and "(20" in source for source in spec.sources.values())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.address)
def test_rows_are_consistent(spec):
    assert spec.matryoshka or (spec.server_dimensions is None and spec.smallest_evaluated is None)
    assert not spec.matryoshka or spec.smallest_evaluated
    assert all(1 <= d <= spec.native_dimensions for d, _ in spec.scores)
    if isinstance(spec.server_dimensions, tuple):
        assert spec.native_dimensions in spec.server_dimensions
    assert issubclass(provider_class(spec.provider), object)
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize("server", catalogue().servers.values(), ids=lambda server: server.name)
def test_every_fact_about_a_server_has_a_source_and_a_date(server):
    row = RAW["server"][server.name]
    assert set(server.sources) == set(row) - {"sources"}
    assert all(source.endswith(")") and "(20" in source for source in server.sources.values())
    assert server.dimensions in (None, *get_args(Cut))
    assert server.answers_with in (None, "asked", "own")
    assert server.base_url is None or check_base_url(server.base_url, has_key=False) == server.base_url


def test_every_source_is_used():
    used = {tag for row in (*RAW["model"], *RAW["server"].values()) for tag in row["sources"]}
    assert used == set(RAW["source"])


@pytest.mark.parametrize(
    ("address", "native", "matryoshka"),
    [
        ("openai:text-embedding-3-large", 3072, True),
        ("openai:text-embedding-3-small", 1536, True),
        ("openai:text-embedding-ada-002", 1536, False),
        ("voyage:voyage-4-large", 2048, True),
        ("voyageai:voyage-4-large", 2048, True),
        ("voyage:voyage-3-lite", 512, False),
        ("voyage:voyage-finance-2", 1024, False),
        ("nomic:nomic-embed-text-v1.5", 768, True),
        ("nomic:nomic-embed-text-v1", 768, False),
        ("wordllama:l2-supercat-256", 256, True),
    ],
)
def test_known_models(address, native, matryoshka):
    spec = find_model(address)
    assert (spec.native_dimensions, spec.matryoshka) == (native, matryoshka)


def test_voyage_4_shares_a_space_and_others_do_not():
    spaces = {name: find_model(f"voyage:{name}").space for name in ("voyage-4", "voyage-4-lite", "voyage-3.5")}
    assert spaces["voyage-4"] == spaces["voyage-4-lite"] != spaces["voyage-3.5"]


@pytest.mark.parametrize(
    ("address", "suggestion"),
    [
        ("text-embedding-3-small", "openai:text-embedding-3-small"),
        ("openai:text-embeding-3-smal", "openai:text-embedding-3-small"),
        ("voyage:voyage4-lite", "voyage:voyage-4-lite"),
        ("nomic:text-embedding-3-large", "openai:text-embedding-3-large"),
    ],
)
def test_an_unknown_model_names_near_misses(address, suggestion):
    with pytest.raises(UnknownModelError) as caught:
        find_spec(address)
    assert suggestion in caught.value.suggestions
    assert suggestion in str(caught.value)


def test_a_name_that_looks_like_a_known_one_is_not_guessed():
    with pytest.raises(UnknownModelError, match="ModelSpec"):
        find_spec("openai:text-embedding-3-large-2027")


def test_an_unknown_provider_names_near_misses():
    with pytest.raises(UnknownProviderError, match="openai") as caught:
        find_spec("opnai:text-embedding-3-small")
    assert caught.value.suggestions[0] == "openai"


@pytest.mark.parametrize(
    "values",
    [
        {"native_dimensions": 0},
        {"native_dimensions": True},
        {"native_dimensions": 8.0},
        {"matryoshka": "yes"},
        {"name": ""},
        {"recipe": "slice"},
        {"server_dimensions": (4, 16)},
        {"server_dimensions": ()},
        {"matryoshka": False, "server_dimensions": "any"},
        {"max_inputs": 0},
        {"smallest_evaluated": -1},
        {"smallest_evaluated": 9},
        {"recipe": "center_slice_l2", "server_dimensions": "any"},
        {"server_dimensions": 4},
        {"server_dtypes": "int8"},
        {"server_dtypes": ("float32",)},
        {"server_dtypes": ("int8", "int4")},
        {"default_input_type": "passage"},
        {"prompts": {"quary": "find: "}},
        {"prompts": ["find: "]},
        {"usd_per_million_tokens": -1},
        {"usd_per_million_tokens": float("nan")},
        {"unit_length": "no"},
        {"provider": "open:ai"},
        {"name": 3},
        {"prompts": {"query": 5}},
        {"prompts": {"query": None}},
        {"space": 5},
        {"revision": 5},
        {"server_dtypes": 5},
        {"server_dtypes": [[]]},
        {"answers_as": 5},
        {"answers_as": b"embed"},
        {"checksums": 5},
        {"sources": [1]},
        {"usd_per_million_tokens": "0.02"},
        {"usd_per_million_tokens": float("inf")},
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(values):
    with pytest.raises(ConfigurationError):
        ModelSpec(**{"provider": "openai", "name": "mine", "native_dimensions": 8, "matryoshka": True} | values)


def test_a_declared_spec_stands_alone():
    spec = ModelSpec(
        provider="openai", name="mine", native_dimensions=8, matryoshka=True, server_dimensions=(8, 2, 4, 2)
    )
    assert spec.space == "openai/mine"
    assert spec.server_dimensions == (2, 4, 8)
    assert dataclasses.replace(spec, name="other").address == "openai:other"


def test_a_spec_is_hashable_and_an_alias_is_its_provider():
    assert len({find_model("nomic:nomic-embed-text-v1.5"), find_model("nomic:nomic-embed-text-v1.5")}) == 1
    spec = ModelSpec(provider="voyageai", name="mine", native_dimensions=8, matryoshka=True)
    assert provider_class(spec.provider)(spec, api_key="k").spec is spec
