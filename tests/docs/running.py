"""Runs a page: its Python blocks in one namespace, its console blocks in bash, both in the working folder.

- A `python` block is run; one that starts with `>>>` is a doctest. `await` works as in a notebook cell.
- A block whose info string ends in `file=NAME` is written to that file instead.
- A `python needs=MODULE` block is run by `tests/integrations/test_funnel_stores.py`, where that package is installed.
- In a `console` block a line that starts with `$ ` is run in bash, and the lines after it are what it must print, where
  `...` stands for anything. `pip install` and `make` are only checked for extras and targets that exist.
- `<!-- invisible-code-block: python` in an HTML comment is run and not shown.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from sybil import Document, Example, Region
from sybil.evaluators.doctest import DocTestEvaluator, OutputChecker
from sybil.evaluators.python import pad
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from mrlclient import Embedder

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FILE = r"\w+ file=\S+"
_NEEDS = r"python needs=\w+"
#: What a block may say it is. `text` and `toml` are shown, not run: only what is not code may use them.
_KNOWN = re.compile(rf"python|console|text|toml|{_NEEDS}|{_FILE}")
_EXTRAS = re.compile(r"'(?:mrlclient|\.)\[([\w,]+)\]'")


class Page:
    """One page, ready to run: with the blocks that need a package, where it is named."""

    def __init__(self, path: Path, needs: str | None = None) -> None:
        parsers = [self._python_blocks(), self._files, self._console_blocks()]
        if needs is not None:
            parsers.append(CodeBlockParser(f"python needs={needs}", self._run_python))
        self.document = Document.parse(str(path), *parsers)

    def run(self) -> None:
        """Runs every block in the order of the page.

        Raises:
            SybilFailure: If a block prints something else than the page shows; its message has the line.
        """
        with asyncio.Runner() as self._loop:
            try:
                for example in self.document:
                    example.evaluate()
            finally:
                for value in self.document.namespace.values():
                    if isinstance(value, Embedder):
                        value.close()

    def _python_blocks(self) -> PythonCodeBlockParser:
        parser = PythonCodeBlockParser()
        # A long error message stands on several lines in a page.
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        parser.doctest_parser = DocTestStringParser(DocTestEvaluator(flags))
        parser.codeblock_parser = CodeBlockParser("python", self._run_python)
        return parser

    def _run_python(self, example: Example) -> None:
        source = pad(example.parsed, example.line + example.parsed.line_offset)
        code = compile(source, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        cell = eval(code, example.namespace)
        if inspect.iscoroutine(cell):
            self._loop.run(cell)

    @staticmethod
    def _files(document: Document) -> Iterable[Region]:
        for block in FencedCodeBlockLexer(_FILE)(document):
            yield Region(block.start, block.end, block.lexemes, _write_file)

    @staticmethod
    def _console_blocks() -> CodeBlockParser:
        return CodeBlockParser("console", _run_console)


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """What each fenced block of a page says it is, and its text."""
    for block in FencedCodeBlockLexer(".*")(Document.parse(str(path))):
        yield block.lexemes["language"], block.lexemes["source"]


def needs(path: Path) -> list[str]:
    """The packages that some blocks of a page need and the project does not."""
    named = (language.partition(" needs=")[2] for language, _ in blocks(path))
    return sorted({package for package in named if package})


def is_known(language: str) -> bool:
    """Whether a block of this kind is run, or is none to run."""
    return _KNOWN.fullmatch(language) is not None


def _write_file(example: Example) -> None:
    name = example.parsed["language"].partition("file=")[2]
    Path(name).write_text(example.parsed["source"], encoding="utf-8")


def _run_console(example: Example) -> str:
    return "".join(_check_command(command, want) for command, want in _commands(example.parsed))


def _commands(source: str) -> Iterator[tuple[str, str]]:
    """The commands of a block, each with what it must print."""
    for part in re.split(r"^\$ ", source, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        end = next((i for i, line in enumerate(lines, 1) if not line.endswith("\\\n")), len(lines))
        yield "".join(lines[:end]).strip(), "".join(lines[end:]).rstrip("\n")


def _check_command(command: str, want: str) -> str:
    """What is wrong with a command, or an empty string."""
    if command.startswith(("pip install ", "make ")):
        problem = _check_install(command) if command.startswith("pip") else _check_target(command)
        return problem or (f"{command}: it is not run, so no output may be shown" if want else "")
    done = subprocess.run(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    )
    checker, flags = OutputChecker(), doctest.ELLIPSIS
    got = done.stdout.rstrip("\n")
    if checker.check_output(want + "\n", got + "\n", flags):
        return ""
    return f"$ {command}\n" + checker.output_difference(doctest.Example(command, want + "\n"), got + "\n", flags)


def _check_install(command: str) -> str:
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    asked = [extra for extras in _EXTRAS.findall(command) for extra in extras.split(",")]
    wrong = sorted(set(asked) - set(offered))
    return f"{command}: no such extra: {', '.join(wrong)}" if wrong else ""


def _check_target(command: str) -> str:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    wrong = [target for target in command.split()[1:] if not re.search(rf"^{target}:", makefile, re.MULTILINE)]
    return f"{command}: no such target: {', '.join(wrong)}" if wrong else ""
