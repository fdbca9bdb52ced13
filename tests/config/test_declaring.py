"""A model is written into a configuration, and nothing else of it changes."""

import tomllib
from dataclasses import replace

import pytest

from mrlclient import ConfigurationError, Embedder, ModelSpec
from mrlclient.config.declaring import check_place, with_declaration

SPEC = ModelSpec(
    provider="openai-compatible",
    name="org/embed",
    native_dimensions=512,
    matryoshka=True,
    smallest_evaluated=64,
    prompts={"query": "q: "},
    server_dimensions=(128, 256),
    sources={"matryoshka": "measured"},
)


def test_a_new_file(tmp_path):
    path = tmp_path / "mrlclient.toml"
    text = with_declaration(path, SPEC)
    assert not path.exists()
    table = tomllib.loads(text)["models"]["openai-compatible:org/embed"]
    assert table == {
        "native_dimensions": 512,
        "matryoshka": True,
        "smallest_evaluated": 64,
        "prompts": {"query": "q: "},
        "server_dimensions": [128, 256],
        "sources": {"matryoshka": "measured"},
    }
    path.write_text(
        'profiles.a = { model = "openai-compatible:org/embed", base_url = "http://127.0.0.1:9/v1" }\n' + text
    )
    with Embedder.from_config(path) as embedder:
        assert embedder.spec == SPEC
        assert dict(embedder.spec.sources) == {"matryoshka": "measured"}


BEFORE = """\
# ours
default = "a"

[profiles.a]   # the first
model = "wordllama:l2-supercat-256"

[models."openai-compatible:org/embed"]
matryoshka = false  # nobody says
native_dimensions = 512
prompts = { query = "q: " }
server_dimensions = [128, 256]

[models."openai-compatible:org/embed".sources]
native_dimensions = "its card"

[models."openai:other"]
native_dimensions = 8
matryoshka = true
"""


def test_comments_and_order_stay(tmp_path):
    path = tmp_path / "mrlclient.toml"
    # What nobody says is Matryoshka can name no server widths.
    path.write_text(BEFORE.replace("server_dimensions = [128, 256]\n", ""))
    text = with_declaration(path, SPEC)
    for line in BEFORE.splitlines():
        if line.strip() and not line.startswith(("matryoshka = false", '[models."openai-compatible:org/embed".sou')):
            assert line in text.splitlines(), line
    assert "# nobody says" in text
    assert text.index("# ours") < text.index("# the first") < text.index("openai-compatible:org/embed")
    values = tomllib.loads(text)["models"]
    assert values["openai-compatible:org/embed"]["sources"] == {
        "native_dimensions": "its card",
        "matryoshka": "measured",
    }
    assert values["openai:other"] == {"native_dimensions": 8, "matryoshka": True}


def test_in_pyproject_it_is_in_our_table(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\n\n[tool.mrlclient]\ndefault = "a"\n\n[tool.other]\nkey = 1\n')
    values = tomllib.loads(with_declaration(path, SPEC))
    assert list(values["tool"]["mrlclient"]["models"]) == [SPEC.address]
    assert values["tool"]["other"] == {"key": 1}
    assert values["project"] == {"name": "x"}
    path.write_text('[project]\nname = "x"\n')
    with pytest.raises(ConfigurationError, match=r"no table \[tool.mrlclient\]"):
        check_place(path, SPEC.address)


def test_another_model_of_that_address_is_refused(tmp_path):
    path = tmp_path / "mrlclient.toml"
    path.write_text('[models."openai-compatible:org/embed"]\nnative_dimensions = 512\nrecipe = "center_slice_l2"\n')
    with pytest.raises(ConfigurationError, match=r"mrlclient.toml:1: it declares .* in another way"):
        with_declaration(path, replace(SPEC, server_dimensions=None))


def test_a_profile_that_declares_it_itself_is_refused(tmp_path):
    path = tmp_path / "mrlclient.toml"
    path.write_text(
        f'[profiles.a]\nmodel = "{SPEC.address}"\nspec = {{ native_dimensions = 512, matryoshka = false }}\n'
    )
    with pytest.raises(ConfigurationError, match=r"mrlclient.toml:3: the profile 'a' .* by spec"):
        check_place(path, SPEC.address)
    check_place(path, "openai:other")


def test_no_configuration(tmp_path):
    (tmp_path / "wrong.toml").write_text("this is = not toml = at all")
    for name, words in (("a.json", "none by its name"), ("wrong.toml", "not TOML"), ("pyproject.toml", "no file")):
        with pytest.raises(ConfigurationError, match=words):
            check_place(tmp_path / name, SPEC.address)
