"""Finds the smallest size of the vectors that is good enough: each width and number type, from one embedding pass."""

from mrlclient import Embedder
from mrlclient.evaluate import SearchData, docstrings, sweep

# A part of the standard library's docstrings, to be quick. `load(folder)` reads data of your own.
whole = SearchData.of(docstrings())
qrels = whole.qrels or []
asked = [place for place, grades in enumerate(qrels) if next(iter(grades)) < 600]
data = SearchData(
    "docstrings",
    whole.document_ids[:600],
    whole.documents[:600],
    [whole.query_ids[place] for place in asked],
    [whole.queries[place] for place in asked],
    [qrels[place] for place in asked],
)

with Embedder() as embedder:
    outcome = sweep(embedder, data, widths=[192, 128, 64], tolerance=0.03)

(model,) = outcome.models
for point in model.points:
    kind = f"{point.dtype}+float32" if point.rescored else point.dtype
    loss = point.loss
    print(f"{point.dimensions:4} {kind:15} {point.bytes_per_vector:5} bytes  {loss.mean:+.3f}  {point.verdict}")
print("\n".join(model.recommendation.reasons))
