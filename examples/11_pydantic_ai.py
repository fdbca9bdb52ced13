"""Embeds with Pydantic AI's Embedder, and says what it cost; MRLCLIENT_MODEL names another provider."""

import asyncio

import numpy as np
from pydantic_ai import Embedder

from mrlclient.integrations.pydantic_ai import MRLEmbeddingModel

DOCUMENTS = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Whales are mammals that live in the sea.",
]


async def main() -> None:
    model = MRLEmbeddingModel()
    embedder = Embedder(model, settings={"dimensions": 64})
    documents = await embedder.embed_documents(DOCUMENTS)
    query = await embedder.embed_query("animals in the ocean")
    scores = np.array(documents.embeddings) @ np.array(query[0])
    print(f"{query.provider_name}, {len(query[0])} wide: {documents.inputs[scores.argmax()]}")
    print(f"{documents.usage.input_tokens} tokens, {documents.usage.cost} USD")
    await model.embedder.aclose()


if __name__ == "__main__":
    asyncio.run(main())
