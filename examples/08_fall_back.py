"""Goes on where a server is down, and keeps what could be had; two emulators stand for two servers."""

import logging
import sys

from mrlclient import Embedder, OpenAI
from mrlclient.testing import Emulator
from mrlclient.testing.emulator import Fault

TEXTS = [
    "Solar panels turn sunlight into electricity.",
    "A text that the server does not like.",
    "Whales are mammals that live in the sea.",
]

# The first server is down; the second refuses one text, and does not say which.
DOWN = Fault(status=503, times=100)
REFUSAL = {"error": {"message": "The input is invalid.", "param": "input"}}
PICKY = Fault(status=400, body=REFUSAL, when=lambda request: TEXTS[1] in request.body["input"], times=100)


def server(emulator: Emulator) -> OpenAI:
    return OpenAI("text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url)


def main() -> None:
    logging.basicConfig(format="%(message)s", stream=sys.stdout)  # it tells who is left alone for a while
    with Emulator() as first, Emulator() as second, Embedder(server(first), fallback=[server(second)]) as embedder:
        first.faults.append(DOWN)
        second.faults.append(PICKY)
        result = embedder.embed(TEXTS, on_error="return")
        print(f"{result.embeddings.shape}, answered by {', '.join(result.answered_by)}")
        for index, error in result.errors.items():
            print(f"row {index} is NaN: {error}")


if __name__ == "__main__":
    main()
