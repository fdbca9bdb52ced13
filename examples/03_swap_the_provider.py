"""One search, any provider: pass model addresses, such as openai:text-embedding-3-small voyage:voyage-4.

Without arguments it takes the address in MRLCLIENT_MODEL, else the embedded default.
"""

import sys

import numpy as np

from mrlclient import Embedder

DOCUMENTS = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Whales are mammals that live in the sea.",
]


def search(embedder: Embedder, query: str) -> str:
    """The document nearest to the query. Nothing in it knows the provider."""
    similarities = embedder.embed_documents(DOCUMENTS) @ embedder.embed_query(query)
    return DOCUMENTS[int(np.argmax(similarities))]


def main() -> None:
    addresses: list[str | None] = list(sys.argv[1:])
    for address in addresses or [None]:
        with Embedder(address) as embedder:
            found = search(embedder, "flour and water for bread")
            print(f"{embedder.model} ({embedder.dimensions} dimensions): {found}")


if __name__ == "__main__":
    main()
