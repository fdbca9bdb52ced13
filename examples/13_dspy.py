"""Searches with DSPy's retriever, documents and queries each in their role; MRLCLIENT_MODEL names another provider."""

import dspy

from mrlclient import Embedder
from mrlclient.integrations.dspy import MRLEmbedder

DOCUMENTS = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Whales are mammals that live in the sea.",
]


def main() -> None:
    with Embedder(dimensions=64) as embedder:
        search = dspy.retrievers.Embeddings(DOCUMENTS, MRLEmbedder(embedder, input_type="document"), k=1)
        search.embedder = MRLEmbedder(embedder, input_type="query")
        for query in ("animals in the ocean", "flour and water"):
            print(f"{query}: {search(query).passages[0]}")
        search.search_fn.close()  # the retriever's thread


if __name__ == "__main__":
    main()
