"""Code that is written against the openai client, on a model that OpenAI does not have."""

import numpy as np
import openai

from mrlclient.integrations.openai import MRLOpenAI

DOCUMENTS = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Whales are mammals that live in the sea.",
]


def search(client: openai.OpenAI, query: str) -> str:
    """The nearest document. Nothing in it knows mrlclient."""
    response = client.embeddings.create(model="text-embedding-3-small", input=[*DOCUMENTS, query], dimensions=64)
    *documents, last = (np.array(item.embedding) for item in response.data)
    print(f"{response.model}, {response.usage.total_tokens} tokens")
    return DOCUMENTS[int(np.argmax(np.array(documents) @ last))]


def main() -> None:
    with MRLOpenAI({"text-embedding-3-small": "wordllama:l2-supercat-256"}) as client:
        print(search(client, "animals in the ocean"))
        try:
            client.embeddings.create(model="wordllama:l2-supercat-256@512", input="too wide")
        except openai.BadRequestError as error:
            print(f"refused: {error}")


if __name__ == "__main__":
    main()
