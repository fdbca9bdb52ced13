"""Runs Nomic Embed v1.5 from a folder that holds tokenizer.json and onnx/model.onnx; no network."""

import sys

from mrlclient import Embedder, Nomic


def main(folder: str) -> None:
    with Embedder(Nomic("nomic-embed-text-v1.5", model_path=folder), dimensions=[64, 256, 768]) as embedder:
        documents = embedder.embed(["Whales live in the sea.", "Bread needs flour."], input_type="document")
        query = embedder.embed(["animals in the ocean"], input_type="query")
    print(embedder.model, documents.usage)
    for width in (768, 256, 64):
        print(width, (documents.at(width) @ query.at(width)[0]).round(2))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python 06_nomic_from_a_folder.py FOLDER")
    main(sys.argv[1])
