"""A LanceDB table on disk that embeds what is put in and what it is searched with."""

import tempfile

import lancedb
from lancedb.pydantic import LanceModel

from mrlclient.integrations.lancedb import MRLEmbeddingFunction

TEXTS = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Whales are mammals that live in the sea.",
]


def main(folder: str) -> None:
    function = MRLEmbeddingFunction.create(model="wordllama:l2-supercat-256", dimensions=128)

    class Docs(LanceModel):  # type: ignore[misc, unused-ignore]
        text: str = function.SourceField()
        vector: list[float] = function.VectorField()  # as wide as the function says

    table = lancedb.connect(folder).create_table("docs", schema=Docs)
    table.add([{"text": text} for text in TEXTS])

    # Later, or in another process that imports the module: the table knows its model.
    table = lancedb.connect(folder).open_table("docs")
    for found in table.search("animals in the ocean").limit(1).to_pydantic(Docs):
        print(len(found.vector), "wide:", found.text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
