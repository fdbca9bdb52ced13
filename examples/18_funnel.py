"""Searches in two stages: a shortlist by the first 64 numbers of each vector, put in order by all 256."""

from mrlclient import Embedder
from mrlclient.search import Funnel

documents = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Interest rates rose for the third time this year.",
    "Whales are mammals that live in the sea.",
    "The train to Lisbon leaves at nine.",
    "A violin has four strings, tuned in fifths.",
]
queries = ["animals in the ocean", "what to bake"]

with Embedder() as embedder:
    stored = embedder.embed(documents, input_type="document")
    asked = embedder.embed(queries, input_type="query")

# Made once, for any number of searches. With real collections the shortlist is 200 deep.
search = Funnel(stored, shortlist_dimensions=64, depth=4)
indices, scores = search.search(asked, k=2)

for query, found, similar in zip(queries, indices, scores, strict=True):
    print(query)
    for index, score in zip(found, similar, strict=True):
        print(f"  {score:.2f}  {documents[index]}")
