"""The blocks of the pages that need a package, and a server, which the project does without."""

from __future__ import annotations

import numpy as np
import pytest

from tests.docs.conftest import sandbox  # noqa: F401
from tests.docs.running import PAGES, Page, needs
from tests.integrations.postgres import postgres

BLOCKS = [(path, package) for path in PAGES for package in needs(path)]


@pytest.fixture(scope="session")
def postgres_url():
    with postgres() as url:
        yield url


@pytest.fixture
def run(request, sandbox, monkeypatch):  # noqa: F811
    """Runs a page with the blocks of a package; gives what they named."""

    def run_page(path, package):
        pytest.importorskip(package, reason=f"{package} is not installed here")
        if package == "psycopg":
            monkeypatch.setenv("POSTGRES_URL", request.getfixturevalue("postgres_url"))
        page = Page(path, package)
        page.run()
        return page.document.namespace

    return run_page


@pytest.mark.parametrize(("path", "package"), BLOCKS, ids=lambda part: getattr(part, "stem", part))
def test_blocks(run, path, package):
    """What the blocks find is what an exact search finds, nearly."""
    names = run(path, package)
    if package == "psycopg":
        with names["connection"] as connection:
            _check(names, names["found"])
            _check(names, _by_index(names, connection))
            connection.execute("DROP TABLE documents")
    else:
        _check(names, [[(point.id, point.score) for point in points] for points in names["answers"]])
        names["client"].close()


def _by_index(names, connection):
    """The same by the index, which the planner passes over while the table is small."""
    connection.execute("SET enable_seqscan = off")
    first, *others = [{"query": query} for query in names["queries"]]
    plan = connection.execute("EXPLAIN " + names["SEARCH"], first).fetchall()
    assert any("Index Scan using documents_prefix" in line for (line,) in plan)
    found = [connection.execute(names["SEARCH"], query).fetchall() for query in (first, *others)]
    # What the page says of the setting: without it, the shortlist is no deeper than 40.
    count = names["SEARCH"].partition("SELECT id, -(")[0] + "SELECT count(*) FROM shortlist"
    assert connection.execute(count, first).fetchone() == (200,)
    connection.execute("RESET hnsw.ef_search")
    assert connection.execute(count, first).fetchone() == (40,)
    return found


def _check(names, found):
    matrix, queries = names["documents"].embeddings, names["queries"].embeddings
    kept = []
    for query, hits, best in zip(queries, found, names["exact"], strict=True):
        rows, scores = (np.array(column) for column in zip(*hits, strict=True))
        assert len(rows) == 10
        np.testing.assert_allclose(scores, matrix[rows] @ query, atol=1e-5)
        assert (np.diff(scores) <= 1e-6).all()
        kept.append(len(np.intersect1d(rows, best)) / 10)
    assert np.mean(kept) > 0.95
