"""Searches in a LangChain vector store; MRLCLIENT_MODEL names another provider."""

import asyncio

from langchain_core.vectorstores import InMemoryVectorStore

from mrlclient.integrations.langchain import MRLEmbeddings

DOCUMENTS = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Whales are mammals that live in the sea.",
]


async def main() -> None:
    embeddings = MRLEmbeddings(dimensions=64)
    store = await InMemoryVectorStore.afrom_texts(DOCUMENTS, embeddings)
    retriever = store.as_retriever(search_kwargs={"k": 1})
    for query in ("animals in the ocean", "flour and water"):
        [document] = await retriever.ainvoke(query)
        print(f"{query}: {document.page_content}")
    await embeddings.embedder.aclose()


if __name__ == "__main__":
    asyncio.run(main())
