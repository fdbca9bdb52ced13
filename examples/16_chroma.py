"""A Chroma collection on disk that keeps who embeds for it, and refuses who does not belong there."""

import tempfile

import chromadb

from mrlclient import IncompatibleSpaceError
from mrlclient.integrations.chroma import MRLEmbeddingFunction, open_collection

TEXTS = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Whales are mammals that live in the sea.",
]


def main(folder: str) -> None:
    client = chromadb.PersistentClient(folder)
    function = MRLEmbeddingFunction("wordllama:l2-supercat-256", dimensions=128)
    client.create_collection("docs", embedding_function=function).add(ids=["0", "1", "2"], documents=TEXTS)

    # Later, or in another process that imports the module: the collection knows its model.
    docs = open_collection(client, "docs")
    print(docs.query(query_texts=["animals in the ocean"], n_results=1)["documents"])
    try:
        open_collection(client, "docs", "wordllama:l2-supercat-256", dimensions=64)
    except IncompatibleSpaceError as error:
        print("refused:", error)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        main(folder)
