"""Links lead somewhere, and the pages keep to the words of the project."""

from __future__ import annotations

import re

import pytest

from tests.docs.running import PAGES, ROOT

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
#: Words for which the project has another: `dimensions`, provider, `native_dimensions`.
_NEVER = re.compile(r"\b(dims?|backends?|max[ _]dimensions|embeddings? size)\b", re.IGNORECASE)

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def _prose(path):
    return _FENCE.sub("", path.read_text("utf-8"))


def _anchors(path):
    """The anchors that GitHub gives a page's headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(_prose(path))}


@each_page
def test_links(path):
    for link in _LINK.findall(_prose(path)):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), link
        assert found == ROOT or ROOT in found.parents, link
        assert not anchor or anchor in _anchors(found), link


def test_every_page_is_in_the_index():
    index = ROOT / "docs/README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(_prose(index))}
    assert {path.resolve() for path in PAGES} - {ROOT / "README.md", index} <= linked


@each_page
def test_words(path):
    assert not _NEVER.search(_prose(path))
