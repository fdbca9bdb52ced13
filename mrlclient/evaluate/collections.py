"""Texts with known answers, to measure a search with."""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from mrlclient.errors import ConfigurationError

#: Folders that are left out: tests of the library, the editor that comes with it, and whatever pip installed beside it.
_LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}

#: A query is longer than this, in characters: a shorter summary says too little to search with.
_MIN_QUERY = 20
#: A document is longer than this, in characters.
_MIN_DOCUMENT = 80

_BLANK_LINE = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class Collection:
    """Queries, documents, and which document each query is after.

    Attributes:
        name: What the texts are.
        queries: No two alike.
        documents: No two alike. A document may be the answer to several queries.
        relevant: For each query, the index of its one relevant document.
    """

    name: str
    queries: list[str] = field(repr=False)
    documents: list[str] = field(repr=False)
    relevant: list[int] = field(repr=False)

    @property
    def qrels(self) -> dict[int, dict[int, float]]:
        """`relevant` as `ndcg` takes it: query index -> {document index: 1.0}."""
        return {query: {document: 1.0} for query, document in enumerate(self.relevant)}

    def __len__(self) -> int:
        return len(self.queries)


def docstrings() -> Collection:
    """The standard library's own docstrings as a known-item search. Reading them takes a second or two.

    The summary of a docstring is a query, and the rest of it is the one document to find. The docstrings are those of
    modules, classes and functions, without the library's tests and `idlelib`. Summaries of 20 characters or less and
    rests of 80 or less are left out. White space is collapsed. A repeated summary is dropped, and a repeated rest is
    kept once. The files are parsed, never imported, once in a process; those that cannot be parsed are skipped.

    The texts differ between releases of Python, so compare figures within one release only: 2,362 queries on 3.11.7.

    Returns:
        The collection, in the order of the file names, and of the lines in each file.

    Raises:
        ConfigurationError: If this Python comes without the sources of its standard library.
    """
    queries, documents, relevant = _pairs(Path(sysconfig.get_paths()["stdlib"]))
    return Collection("standard library docstrings", list(queries), list(documents), list(relevant))


@lru_cache(maxsize=1)
def _pairs(library: Path) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    """The queries, the documents, and for each query the index of its document."""
    found: dict[str, int] = {}
    documents: dict[str, int] = {}
    for docstring in _docstrings(library):
        summary, *rest = _BLANK_LINE.split(docstring.strip(), maxsplit=1)
        query, document = " ".join(summary.split()), " ".join(" ".join(rest).split())
        if len(query) > _MIN_QUERY and len(document) > _MIN_DOCUMENT and query not in found:
            found[query] = documents.setdefault(document, len(documents))
    if not found:
        raise ConfigurationError(f"There are no docstrings in {library}: this Python comes without its sources.")
    return tuple(found), tuple(documents), tuple(found.values())


def _docstrings(library: Path) -> Iterator[str]:
    """The docstring of each module, class and function, file by file, from top to bottom."""
    for path in _sources(library):
        try:
            with warnings.catch_warnings():
                # An old file's invalid escapes are no news to whoever measures.
                warnings.simplefilter("ignore")
                tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            # The last two are the parser's words for nesting that is too deep.
            continue
        yield from _docstrings_in(tree)


def _sources(library: Path) -> list[Path]:
    """The files, sorted by name whatever the file system's order."""
    found = []
    folders = [library]
    while folders:
        for path in folders.pop().iterdir():
            if path.suffix == ".py":
                found.append(path)
            elif path.name not in _LEFT_OUT and path.is_dir() and not path.is_symlink():
                folders.append(path)
    return sorted(found, key=lambda path: path.relative_to(library).parts)


def _docstrings_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node, clean=False)
        if docstring:
            yield docstring
    for child in ast.iter_child_nodes(node):
        # No definition stands inside an expression: passing over those saves most of the walk.
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _docstrings_in(child)
