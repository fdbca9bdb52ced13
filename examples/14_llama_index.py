"""Searches in a LlamaIndex index that was kept on disk; MRLCLIENT_MODEL names another provider."""

import tempfile

from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage

from mrlclient import Embedder
from mrlclient.integrations.llama_index import MRLEmbedding

TEXTS = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Whales are mammals that live in the sea.",
]


def main() -> None:
    with Embedder(dimensions=64) as embedder, tempfile.TemporaryDirectory() as folder:
        model = MRLEmbedding(embedder)
        index = VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS], embed_model=model)
        index.storage_context.persist(folder)

        kept = load_index_from_storage(StorageContext.from_defaults(persist_dir=folder), embed_model=model)
        retriever = kept.as_retriever(similarity_top_k=1)
        for query in ("animals in the ocean", "flour and water"):
            [found] = retriever.retrieve(query)
            print(f"{query}: {found.text}")


if __name__ == "__main__":
    main()
