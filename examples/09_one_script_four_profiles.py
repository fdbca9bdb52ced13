"""Retrieval for a language model, by whichever provider mrlclient.toml says: changing it is changing one line there.

Pass another file to use that instead of the one beside this script.
"""

import sys
from pathlib import Path

import numpy as np

from mrlclient import Embedder

PASSAGES = [
    "Refunds are paid within five days of the return.",
    "Parcels to islands take two days longer.",
    "The shop is closed on Sundays and on holidays.",
    "A return is free within thirty days, with the label in the parcel.",
]


def retrieve(embedder: Embedder, index: np.ndarray, question: str, k: int = 2) -> list[str]:
    """The passages nearest to a question."""
    nearest = np.argsort(index @ embedder.embed_query(question))[::-1]
    return [PASSAGES[row] for row in nearest[:k]]


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("mrlclient.toml")
    question = "How many days does a return take?"
    with Embedder.from_config(path) as embedder:
        index = embedder.embed_documents(PASSAGES)
        passages = retrieve(embedder, index, question)
        print(f"By {embedder.model}, {embedder.dimensions} dimensions:")
    print("\n".join([*(f"- {passage}" for passage in passages), f"Answer from these: {question}"]))


if __name__ == "__main__":
    main()
