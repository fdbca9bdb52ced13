"""Fills a FAISS index, and opens it again: the model that filled it may, at any wider width; no other may."""

import tempfile
from pathlib import Path

from mrlclient import Embedder, IncompatibleSpaceError
from mrlclient.integrations.faiss import IndexVectors, new_index, read_index, write_index

documents = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Whales are mammals that live in the sea.",
    "The train to Lisbon leaves at nine.",
]

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "index.faiss"
    with Embedder(dimensions=128) as embedder:
        vectors = IndexVectors.new(embedder)
        index = new_index(vectors)
        for chunk in vectors.batches(documents):
            index.add(chunk.embeddings)
        write_index(index, path, vectors)

    with Embedder() as wider:
        index, vectors = read_index(path, wider)
        scores, found = index.search(vectors.query("animals in the ocean")[None], 1)
        print(f"{scores[0, 0]:.2f}  {documents[found[0, 0]]}")

    with Embedder("openai:text-embedding-3-small", dimensions=128, on_narrow="allow") as other:
        try:
            read_index(path, other)
        except IncompatibleSpaceError as error:
            print(error)
