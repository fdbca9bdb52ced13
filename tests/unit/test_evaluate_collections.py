import sys
import sysconfig
from pathlib import Path
from statistics import fmean

import pytest

from mrlclient import ConfigurationError, Embedder
from mrlclient.evaluate import docstrings, ndcg, rank

REST = "The rest of this docstring, which is long enough to be a document, since it has more than eighty characters"


@pytest.fixture(scope="module")
def real():
    return docstrings()


def test_the_standard_library_gives_a_thousand_pairs(real):
    assert len(real) == len(real.queries) == len(real.relevant) >= 1000
    assert len(set(real.queries)) == len(real.queries)
    assert len(set(real.documents)) == len(real.documents)
    assert set(real.relevant) == set(range(len(real.documents)))
    assert min(map(len, real.queries)) > 20
    assert min(map(len, real.documents)) > 80
    assert real.qrels[5] == {real.relevant[5]: 1.0}
    assert len(repr(real)) < 100


def test_a_pair_is_from_one_docstring(real):
    import textwrap

    query = real.queries.index("Collapse and truncate the given text to fit in the given width.")
    document = " ".join(textwrap.shorten.__doc__.split()).partition("width. ")[2]
    assert real.documents[real.relevant[query]] == document


def test_what_each_width_finds(real):
    embedder = Embedder(on_narrow="allow")
    queries = embedder.embed(real.queries, input_type="query")
    documents = embedder.embed(real.documents, input_type="document")
    scores = {
        width: fmean(ndcg(dict(enumerate(rank(queries.at(width), documents.at(width)))), real.qrels).values())
        for width in (256, 192, 128, 64, 32, 16)
    }
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    if sys.version_info[:2] == (3, 11) and len(real) == 2362:
        measured = {256: 0.375, 192: 0.367, 128: 0.353, 64: 0.304, 32: 0.217, 16: 0.115}
        assert scores == pytest.approx(measured, abs=0.003)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A standard library of one's own."""
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})

    def add(path, *docstrings):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        code = [f"def f{i}():\n    '''{docstring}'''\n" for i, docstring in enumerate(docstrings)]
        file.write_text("raise SystemExit('imported')\n" + "".join(code), encoding="utf-8")
        return file

    return add


def pair(name):
    return f"The summary line of {name}.\n\n    {REST} {name}."


def test_the_order_is_that_of_names_and_lines(library):
    library("b.py", pair("b0"), pair("b1"))
    library("a/z.py", pair("z"))
    library("c/__init__.py", pair("c"))
    found = docstrings()
    assert [query.split()[-1] for query in found.queries] == ["z.", "b0.", "b1.", "c."]
    assert found.relevant == [0, 1, 2, 3]


def test_modules_classes_and_what_stands_inside_them(library):
    library("a.py").write_text(
        f"""'''{pair("module")}'''
class A:
    '''{pair("class")}'''
    async def method(self):
        '''{pair("method")}'''
        if True:
            def inner():
                '''{pair("inner")}'''
try:
    pass
except ImportError:
    def fallback():
        r'''{pair("fallback")}'''
match 1:
    case 1:
        def case():
            '''{pair("case")}'''
""",
        encoding="utf-8",
    )
    names = [query.split()[-1][:-1] for query in docstrings().queries]
    assert names == ["module", "class", "method", "inner", "fallback", "case"]


def test_duplicates_are_dropped(library):
    same_summary = f"The summary line of one.\n\n    Another rest. {REST}"
    same_rest = f"Another summary of the same rest.\n\n    {REST} one."
    library("a.py", pair("one"), pair("two"), same_summary, same_rest)
    found = docstrings()
    assert len(found.documents) == 2
    assert found.relevant == [0, 1, 0]


def test_what_is_too_short_or_left_out(library):
    long = "A summary of more than twenty characters"
    library("a.py", pair("one"), f"Short.\n\n    {REST}", f"{long}.\n\n    Short.", f"{long}, on its own {REST}.")
    for folder in ("test", "email/tests", "idlelib", "site-packages/acme", "dist-packages"):
        library(f"{folder}/module.py", pair(folder))
    assert len(docstrings()) == 1


def test_what_cannot_be_parsed_is_passed_over(library):
    library("a.py", pair("one"))
    library("b.py").write_text("def broken(:\n", encoding="utf-8")
    library("c.py").write_bytes(b"'\xff'")
    library("d.py").write_bytes(b"x = '\0'")
    library("e.py").write_text("-" * 100_000 + "1", encoding="utf-8")
    library("f.py").write_text(rf"'''\d is no escape. {pair('f')}'''", encoding="utf-8")
    library("g.py/module.py", pair("g"))
    assert len(docstrings()) == 2


def test_a_python_without_sources(library):
    with pytest.raises(ConfigurationError, match="sources"):
        docstrings()


def test_a_link_to_a_folder_above_is_not_followed(library, tmp_path, monkeypatch):
    library("a.py", pair("a"))
    library("b/c.py", pair("c"))
    try:
        (tmp_path / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    read = []
    bytes_of = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or bytes_of(path))
    assert len(docstrings()) == 2
    assert read == [tmp_path / "a.py", tmp_path / "b" / "c.py"]
