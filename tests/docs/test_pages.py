"""Every page does what it shows."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from sybil.example import SybilFailure

from tests.docs.running import PAGES, ROOT, Page, blocks, is_known

#: The packages that a page is about, where not every environment of the tests has them.
NEEDS = {
    "use-a-vector-store.md": ("faiss", "pgvector", "psycopg", "pymilvus", "qdrant_client", "usearch"),
    "use-with-chroma.md": ("chromadb",),
    "use-with-dspy.md": ("dspy",),
    "use-with-haystack.md": ("haystack",),
    "use-with-lancedb.md": ("lancedb",),
    "use-with-langchain.md": ("langchain_core",),
    "use-with-llama-index.md": ("llama_index",),
    "use-with-pydantic-ai.md": ("pydantic_ai",),
}


def _name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_page(path, sandbox):
    absent = [name for name in NEEDS.get(path.name, ()) if find_spec(name) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} is not installed here")
    Page(path).run()


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_no_block_escapes(path):
    """A block in a language that nothing runs would be shown untested; so would code dressed as text."""
    for language, source in blocks(path):
        assert is_known(language), f"a block says it is {language!r}"
        if language == "text":
            assert not any(line.startswith(("import ", "from ", ">>> ", "$ ")) for line in source.splitlines())


@pytest.mark.parametrize(
    "block",
    [
        "python\n>>> 1 + 1\n3",
        "python\n>>> 1 / 0",
        "console\n$ echo one; echo two\none",
        "console\n$ true\nsomething",
        "console\n$ echo seven\n$ echo eight\neight",
        "console\n$ pip install 'mrlclient[wordllama,nothing]'",
        "console\n$ make nothing",
        "console\n$ make test\nall is well",
    ],
)
def test_wrong_page_fails(block, sandbox):
    page = sandbox / "page.md"
    page.write_text(f"# Wrong\n\n```{block}\n```\n")
    with pytest.raises(SybilFailure):
        Page(page).run()


def test_wrong_code_fails(sandbox):
    page = sandbox / "page.md"
    page.write_text("# Wrong\n\n```python\nvalue = 1\n```\n\n```python\nassert value == 2\n```\n")
    with pytest.raises(AssertionError):
        Page(page).run()
