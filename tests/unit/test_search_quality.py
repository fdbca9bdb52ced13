"""What a shortlist at a quarter of the width loses, on real text and a real model."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from mrlclient import Embedder
from mrlclient.evaluate import docstrings, ndcg, rank
from mrlclient.search import Funnel
from tests.conftest import REAL_ENVIRONMENT

#: Collections that are not part of the project: in the folder that the variable names, or beside the checkout.
DATA = Path(
    REAL_ENVIRONMENT.get("MRLCLIENT_TEST_DATA") or Path(__file__).parent.parent.parent.parent / "shared" / "data"
)


def _of_docstrings():
    collection = docstrings()
    return collection.queries, collection.documents, collection.qrels


def _of_scifact():
    folder = DATA / "scifact-mini"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder.name} in {DATA.name}: MRLCLIENT_TEST_DATA may name its folder")
    queries, documents = (
        {row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in map(json.loads, lines)}
        for lines in ((folder / name).read_bytes().splitlines() for name in ("queries.jsonl", "corpus.jsonl"))
    )
    query_rows, document_rows = ({name: row for row, name in enumerate(rows)} for rows in (queries, documents))
    qrels: dict[int, dict[int, float]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query_rows[query], {})[document_rows[document]] = float(grade)
    return list(queries.values()), list(documents.values()), qrels


@pytest.mark.parametrize("collection", [pytest.param(_of_docstrings, marks=pytest.mark.soak), _of_scifact])
def test_a_shortlist_at_64_keeps_what_the_full_width_finds(collection):
    asked, texts, qrels = collection()
    with Embedder() as embedder:
        queries = embedder.embed(asked, input_type="query")
        documents = embedder.embed(texts, input_type="document")

    def score(found):
        return fmean(ndcg(dict(enumerate(found)), qrels, k=10).values())

    full = score(rank(queries.embeddings, documents.embeddings))
    narrow = score(rank(queries.at(64), documents.at(64)))
    hits = Funnel(documents, shortlist_dimensions=64, depth=200).search(queries, 10)
    kept = score(hits.indices) / full
    assert kept >= 0.98
    assert narrow / full < 0.95
    assert np.allclose(
        hits.scores[:, 0], (documents.embeddings[hits.indices[:, 0]] * queries.embeddings).sum(axis=1), atol=1e-6
    )
