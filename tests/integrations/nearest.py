"""What a vector store has to find, by matrix multiplication."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrlclient import Embedder
from mrlclient.evaluate import Collection

DEPTH = 10

#: The first document that a local model with 2,048 tokens refuses comes later.
_DOCUMENTS = 100


def shortened(collection: Collection) -> Collection:
    """The first documents, none of which is too long for any model, and their queries."""
    queries = [query for query, document in enumerate(collection.relevant) if document < _DOCUMENTS]
    return Collection(
        collection.name,
        [collection.queries[query] for query in queries],
        collection.documents[:_DOCUMENTS],
        [collection.relevant[query] for query in queries],
    )


def check_found(found: Any, embedder: Embedder, collection: Collection) -> None:
    """Documents found, (queries, DEPTH), are those whose vectors are nearest, and the right ones are among them."""
    documents = embedder.embed(collection.documents, input_type="document").embeddings
    queries = embedder.embed(collection.queries, input_type="query").embeddings
    scores = queries @ documents.T
    found = np.asarray(found, dtype=int)
    nearest = np.sort(scores, axis=1)[:, ::-1][:, :DEPTH]
    np.testing.assert_allclose(np.take_along_axis(scores, found, axis=1), nearest, atol=1e-4)
    relevant = np.array(collection.relevant)
    ranks = (scores > scores[np.arange(len(relevant)), relevant][:, None] + 1e-4).sum(axis=1)
    expected = ranks < DEPTH
    assert expected.any()
    assert (found == relevant[:, None]).any(axis=1)[expected].all()
