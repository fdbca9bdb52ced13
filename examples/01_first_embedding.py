"""Embeds three texts with the embedded default: no key, no network."""

from mrlclient import Embedder

texts = [
    "Solar panels turn sunlight into electricity.",
    "A photovoltaic cell produces power from light.",
    "The train to Lisbon leaves at nine.",
]

with Embedder() as embedder:
    vectors = embedder.embed_documents(texts)

print(embedder.model)
print(vectors.shape, vectors.dtype)
# Every row has unit length, so the dot product is the cosine.
for text, similarity in zip(texts, vectors @ vectors[0], strict=True):
    print(f"{similarity:5.2f}  {text}")
