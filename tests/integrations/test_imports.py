"""Each integration imports its own framework and no other, and says how to get it where it is missing."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

import mrlclient.integrations

#: Integration -> the package that it imports, and the extra that brings it. None: it imports none.
FRAMEWORKS: dict[str, tuple[str, str] | None] = {
    "chroma": ("chromadb", "chroma"),
    "dspy": ("dspy", "dspy"),
    "faiss": ("faiss", "faiss"),
    "haystack": ("haystack", "haystack"),
    "lancedb": ("lancedb", "lancedb"),
    "langchain": ("langchain_core", "langchain"),
    "llama_index": ("llama_index.core", "llama-index"),
    "milvus": None,
    "openai": ("openai", "openai"),
    "pgvector": ("psycopg", "pgvector"),
    "pydantic_ai": ("pydantic_ai", "pydantic-ai"),
    "qdrant": ("qdrant_client", "qdrant"),
    "usearch": ("usearch", "usearch"),
}
THERE = sorted(
    module.name for module in pkgutil.iter_modules(mrlclient.integrations.__path__) if not module.name.startswith("_")
)
#: Frameworks, stores and clients: none of them may come along with another.
STRANGERS = {name.partition(".")[0] for name, _ in filter(None, FRAMEWORKS.values())} | {
    "litellm",
    "pgvector",
    "pymilvus",
    "voyageai",
}

each = pytest.mark.parametrize("name", THERE)


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout


@each
def test_only_its_own_framework(name):
    framework, _ = FRAMEWORKS[name] or ("sys", None)
    try:
        there = find_spec(framework)
    except ModuleNotFoundError:
        there = None
    if there is None:
        pytest.skip(f"{framework} is not installed here")
    # What the framework itself brings is its own affair.
    code = (
        f"import json, sys, {framework}; before = set(sys.modules)\n"
        f"import mrlclient.integrations.{name}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    roots = {module.partition(".")[0] for module in json.loads(run(code).splitlines()[-1])}
    assert roots & (STRANGERS - {framework.partition(".")[0]}) == set()


@pytest.mark.parametrize("name", [name for name in THERE if FRAMEWORKS.get(name)])
def test_a_framework_that_is_missing(name):
    framework, extra = FRAMEWORKS[name]
    code = (
        f"import sys; sys.modules[{framework.partition('.')[0]!r}] = None\n"
        "from mrlclient import MissingExtraError\n"
        f"try: import mrlclient.integrations.{name}\n"
        "except MissingExtraError as error: print(error.extra, error)"
    )
    said = run(code)
    assert said.startswith(f"{extra} ")
    assert said.endswith(f"pip install 'mrlclient[{extra}]'\n")


def test_the_package_imports_none_of_them():
    loaded = json.loads(run("import json, sys, mrlclient.integrations; print(json.dumps(sorted(sys.modules)))"))
    assert {module.partition(".")[0] for module in loaded} & STRANGERS == set()


def test_every_integration_is_in_the_table():
    assert set(THERE) <= set(FRAMEWORKS)
