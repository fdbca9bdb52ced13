"""Searches with a Haystack pipeline that was written down as YAML; MRLCLIENT_MODEL names another provider."""

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from haystack_integrations.components.embedders.mrlclient import MRLDocumentEmbedder, MRLTextEmbedder

DOCUMENTS = [
    Document(content="Solar panels turn sunlight into electricity."),
    Document(content="Sourdough bread needs flour, water, salt and patience."),
    Document(content="Whales are mammals that live in the sea."),
]


def main() -> None:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine", index="example")
    embedder = MRLDocumentEmbedder(dimensions=64)
    store.write_documents(embedder.run(DOCUMENTS)["documents"])
    embedder.close()

    search = Pipeline()
    search.add_component("embedder", MRLTextEmbedder(dimensions=64))
    search.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    search.connect("embedder.embedding", "retriever.query_embedding")

    loaded = Pipeline.loads(search.dumps())
    for query in ("animals in the ocean", "flour and water"):
        [document] = loaded.run({"embedder": {"text": query}})["retriever"]["documents"]
        print(f"{query}: {document.content}")
    loaded.close()


if __name__ == "__main__":
    main()
