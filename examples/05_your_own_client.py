"""Sends through an official OpenAI client that you already have; against the emulator where no key is set."""

import os
from contextlib import ExitStack

import openai

from mrlclient import Embedder, OpenAI
from mrlclient.testing import Emulator


def main() -> None:
    with ExitStack() as stack:
        if os.environ.get("OPENAI_API_KEY"):
            client = openai.OpenAI()
        else:
            print("no OPENAI_API_KEY: the emulator answers, with vectors of its own")
            emulator = stack.enter_context(Emulator())
            client = openai.OpenAI(api_key=emulator.openai_key, base_url=emulator.openai_base_url)
        # The client is yours: the embedder does not close it.
        stack.enter_context(client)
        embedder = stack.enter_context(Embedder(OpenAI("text-embedding-3-small", client=client)))
        result = embedder.embed(["flour and water", "sun and wind"], dimensions=[512, 1024])
        print(f"{embedder.model}: {result.at(1024).shape}, {result.at(512).shape}, cut by the {result.reduction}")
        print(f"{result.usage.tokens} tokens, {result.usage.usd} USD at list price")


if __name__ == "__main__":
    main()
