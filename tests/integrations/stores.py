"""What every vector store is tried with: a filled index, reopened by whoever belongs to it and by whoever does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mrlclient import Embedder, IncompatibleSpaceError, IndexContract, OpenAI
from mrlclient.evaluate import Collection
from mrlclient.integrations._index_vectors import IndexVectors

#: The width of every index: less than the embedded model has.
WIDTH = 128


def filling() -> Embedder:
    """Who fills an index."""
    return Embedder(dimensions=WIDTH)


def wider() -> Embedder:
    """The same model at its full width."""
    return Embedder()


def check_search(collection: Collection, search: Callable[[str], Sequence[int]]) -> None:
    """Whether a store finds what exact search finds, and the documents that answer the queries.

    Args:
        collection: What the store was filled with.
        search: The positions of the five nearest documents to a query, nearest first.
    """
    with filling() as embedder:
        documents = embedder.embed_documents(collection.documents)
        queries = embedder.embed(collection.queries, input_type="query").embeddings
    similar = queries @ documents.T
    hits = 0
    for number, (query, relevant) in enumerate(zip(collection.queries, collection.relevant, strict=True)):
        found = list(search(query))
        assert len(set(found)) == 5
        # Documents at one distance may come in any order.
        np.testing.assert_allclose(similar[number, found], np.sort(similar[number])[::-1][:5], atol=1e-5)
        hits += relevant in found
    # Exact search has half of them among five of 200; chance, one in forty.
    assert hits > 0.45 * len(collection.queries)


def other_model(emulator) -> Embedder:
    """Another model of the index's width."""
    provider = OpenAI("text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    return Embedder(provider, dimensions=WIDTH, on_narrow="allow")


def check_refusals(contract: IndexContract, emulator) -> None:
    """Whether a contract that came back from a store refuses whoever does not belong."""
    with other_model(emulator) as other, pytest.raises(IncompatibleSpaceError, match=r"wordllama.*128 wide"):
        IndexVectors.open(other, contract)
    with Embedder(dimensions=64) as narrow, pytest.raises(IncompatibleSpaceError, match="gives 64 dimensions"):
        IndexVectors.open(narrow, contract)
    assert not emulator.requests
