"""Embeds once, and searches at three widths: one request serves them all."""

import numpy as np

from mrlclient import Embedder

documents = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Interest rates rose for the third time this year.",
    "Whales are mammals that live in the sea.",
    "The train to Lisbon leaves at nine.",
]
query = "animals in the ocean"
widths = [256, 128, 64]

with Embedder() as embedder:
    stored = embedder.embed(documents, dimensions=widths, input_type="document")
    asked = embedder.embed([query], dimensions=widths, input_type="query")

print(query)
for width in widths:
    similarities = stored.at(width) @ asked.at(width)[0]
    best = int(np.argmax(similarities))
    print(f"at {width}: {similarities[best]:.2f}  {documents[best]}")
