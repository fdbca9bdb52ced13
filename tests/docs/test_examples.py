"""Every example runs as a script, with warnings as errors."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.docs.running import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

#: What an example is given, and a line that it must print.
CASES = {
    "01_first_embedding": [([], "(3, 256) float32")],
    "02_search_at_any_dimension": [([], "at 64: ")],
    "03_swap_the_provider": [
        ([], "wordllama:l2-supercat-256"),
        (["openai:text-embedding-3-small", "wordllama:l2-supercat-256"], "openai:text-embedding-3-small"),
    ],
    "04_async_many": [([], "tokens")],
    "05_your_own_client": [([], "openai:text-embedding-3-small")],
    "06_nomic_from_a_folder": [(["nomic-embed-text-v1.5"], "nomic:nomic-embed-text-v1.5")],
    "07_pay_once": [([], "256: 0 tokens paid for, 3 texts from the cache")],
    "08_fall_back": [([], "row 1 is NaN: Text 1: openai answered 400: The input is invalid.")],
    "09_one_script_four_profiles": [([], "By wordllama:l2-supercat-256, 256 dimensions:")],
    "10_langchain": [([], "animals in the ocean: Whales are mammals that live in the sea.")],
    "11_pydantic_ai": [([], "wordllama, 64 wide: Whales are mammals that live in the sea.")],
    "12_openai_stand_in": [([], "refused: dimensions=512 is wider than the model.")],
    "13_dspy": [([], "flour and water: Sourdough bread needs flour, water, salt and patience.")],
    "14_llama_index": [([], "animals in the ocean: Whales are mammals that live in the sea.")],
    "15_haystack": [([], "flour and water: Sourdough bread needs flour, water, salt and patience.")],
    "16_chroma": [([], "refused: The index holds vectors of wordllama:l2-supercat-256, 128 wide")],
    "17_lancedb": [([], "128 wide: Whales are mammals that live in the sea.")],
    "18_funnel": [([], "Whales are mammals that live in the sea.")],
    "19_vector_stores": [
        ([], "Whales are mammals that live in the sea."),
        ([], "The index holds vectors of wordllama:l2-supercat-256, 128 wide, but openai:text-embedding-3-small has a"),
    ],
    "20_sweep": [([], " 256 float32          1024 bytes  +0.000  within")],
}

#: The package that an example is about, where not every environment of the tests has it.
NEEDS: dict[str, str] = {
    "10_langchain": "langchain_core",
    "11_pydantic_ai": "pydantic_ai",
    "13_dspy": "dspy",
    "14_llama_index": "llama_index",
    "15_haystack": "haystack",
    "16_chroma": "chromadb",
    "17_lancedb": "lancedb",
    "19_vector_stores": "faiss",
}


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [(path.stem, *case) for path in EXAMPLES for case in CASES[path.stem]],
)
def test_example(name, arguments, line, sandbox):
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed here")
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert line in done.stdout


def test_example_without_a_key(sandbox, monkeypatch):
    """The example of one's own client needs no key."""
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    test_example("05_your_own_client", [], "emulator", sandbox)


@pytest.mark.parametrize(
    ("profile", "line"),
    [
        ("words", "By wordllama:l2-supercat-256, 256 dimensions:"),
        ("openai", "By openai:text-embedding-3-small, 512 dimensions:"),
        ("voyage", "By voyage:voyage-4, 512 dimensions:"),
        ("nomic", "By nomic:nomic-embed-text-v1.5, 256 dimensions:"),
    ],
)
def test_one_line_changes_the_provider(profile, line, sandbox, emulator):
    text = (ROOT / "examples" / "mrlclient.toml").read_text("utf-8")
    assert text.count('default = "words"') == 1
    text = text.replace('default = "words"', f'default = "{profile}"')
    # Voyage's client knows no variable for another host, so the emulator's stands in the file.
    server = f'base_url = "{emulator.voyage_base_url}"\napi_key_env = "VOYAGE_API_KEY"'
    (sandbox / "mrlclient.toml").write_text(text.replace("[profiles.voyage]", f"[profiles.voyage]\n{server}"), "utf-8")
    test_example("09_one_script_four_profiles", ["mrlclient.toml"], line, sandbox)
    assert len(emulator.requests) == (2 if profile in ("openai", "voyage") else 0)


def test_examples_are_short():
    assert EXAMPLES
    for path in EXAMPLES:
        assert len(path.read_text("utf-8").splitlines()) <= 40, path.name
