"""Pays for each text once: the second run of this script, and every narrower width, is free."""

import sys
from pathlib import Path

from mrlclient import Embedder

TEXTS = [
    "Solar panels turn sunlight into electricity.",
    "Sourdough bread needs flour, water, salt and patience.",
    "Whales are mammals that live in the sea.",
]


def main(cache: Path) -> None:
    # The full width is asked for, so the cache has every width from then on.
    with Embedder(cache=cache, fetch="native") as embedder:
        for width in (64, 128, 256):
            usage = embedder.embed(TEXTS, dimensions=width).usage
            print(f"{width}: {usage.tokens} tokens paid for, {usage.cached_texts} texts from the cache")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "vectors.db"))
