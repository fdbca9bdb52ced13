"""What clients make of a server that misbehaves: `python -m benchmarks.faults [CLIENT ...]`.

Clients are measured where they are installed: `openai` and `voyageai` are, with the tests. Others want environments of
their own, with this package in it: `litellm`, `langchain-openai`, `llama-index-embeddings-openai`, `haystack-ai`.

Each of the emulator's faults lasts, and meets the obvious use of a client once, without retries: three texts at 512
dimensions, a timeout of 2 s. Counted is what a user would have to find out by himself:

- wrong: vectors without an error that are not those of the texts: too few, in another order, NaN, of another width
- foreign: an exception that is none of the client's own, so that `except` for its errors does not catch it
- hung: neither vectors nor an error two seconds after the timeout

A vector is right whatever its length, for not every client promises unit length.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import os
import platform
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np

from mrlclient import Embedder, OpenAI, Voyage
from mrlclient.testing import Emulator
from mrlclient.testing.emulator import FAULTS, emulator_vector

TEXTS = ["a first text", "a second, longer text", "and a third"]
WIDTH = 512
TIMEOUT = 2.0
GRACE = 2.0
#: The vectors of an answer of another name are right; whether a client looks at the name is another question.
LEFT_OUT = ("renamed_model",)


def by_openai(emulator: Emulator) -> Any:
    """As in OpenAI's own documentation."""
    import openai

    client = openai.OpenAI(
        api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=TIMEOUT, max_retries=0
    )
    answer = client.embeddings.create(model="text-embedding-3-small", input=TEXTS, dimensions=WIDTH)
    return [row.embedding for row in answer.data]


def by_voyageai(emulator: Emulator) -> Any:
    """As in Voyage's own documentation; it does not retry by itself."""
    import voyageai

    client = voyageai.Client(emulator.voyage_key, base_url=emulator.voyage_base_url, timeout=TIMEOUT)
    return client.embed(TEXTS, model="voyage-4", output_dimension=WIDTH).embeddings


def ours_openai(emulator: Emulator) -> Any:
    """mrlclient, over OpenAI's API."""
    provider = OpenAI(
        "text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=TIMEOUT
    )
    with Embedder(provider, dimensions=WIDTH, max_attempts=1) as embedder:
        return embedder.embed(TEXTS).embeddings


def ours_voyage(emulator: Emulator) -> Any:
    """mrlclient, over Voyage's API."""
    provider = Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url, timeout=TIMEOUT)
    with Embedder(provider, dimensions=WIDTH, max_attempts=1) as embedder:
        return embedder.embed(TEXTS).embeddings


def by_litellm(emulator: Emulator) -> Any:
    """LiteLLM's function."""
    import litellm

    answer = litellm.embedding(
        "openai/text-embedding-3-small",
        TEXTS,
        dimensions=WIDTH,
        api_key=emulator.openai_key,
        api_base=emulator.openai_base_url,
        timeout=TIMEOUT,
        max_retries=0,
    )
    return [row["embedding"] for row in answer.data]


def by_langchain(emulator: Emulator) -> Any:
    """LangChain's class, which sends texts where it is told not to send tokens."""
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small",
        dimensions=WIDTH,
        api_key=emulator.openai_key,
        base_url=emulator.openai_base_url,
        timeout=TIMEOUT,
        max_retries=0,
        check_embedding_ctx_length=False,
    )
    return embeddings.embed_documents(TEXTS)


def by_llama_index(emulator: Emulator) -> Any:
    """LlamaIndex's class."""
    from llama_index.embeddings.openai import OpenAIEmbedding

    embedding = OpenAIEmbedding(
        model="text-embedding-3-small",
        dimensions=WIDTH,
        api_key=emulator.openai_key,
        api_base=emulator.openai_base_url,
        timeout=TIMEOUT,
        max_retries=0,
    )
    return embedding.get_text_embedding_batch(TEXTS)


def by_haystack(emulator: Emulator) -> Any:
    """Haystack's component for documents, with its defaults."""
    from haystack import Document
    from haystack.components.embedders import OpenAIDocumentEmbedder
    from haystack.utils import Secret

    embedder = OpenAIDocumentEmbedder(
        api_key=Secret.from_token(emulator.openai_key),
        model="text-embedding-3-small",
        dimensions=WIDTH,
        api_base_url=emulator.openai_base_url,
        timeout=TIMEOUT,
        max_retries=0,
        progress_bar=False,
    )
    documents = embedder.run([Document(content=text) for text in TEXTS])["documents"]
    return [document.embedding for document in documents]


#: What it is called, whose API it speaks, how it embeds, and where its own errors are. Whatever stands on OpenAI's
#: client may let the errors of that through.
CLIENTS: tuple[tuple[str, str, Callable[[Emulator], Any], str], ...] = (
    ("openai", "openai", by_openai, "openai:OpenAIError"),
    ("litellm", "openai", by_litellm, "openai:OpenAIError"),
    ("langchain-openai", "openai", by_langchain, "openai:OpenAIError"),
    ("llama-index-embeddings-openai", "openai", by_llama_index, "openai:OpenAIError"),
    ("haystack-ai", "openai", by_haystack, "openai:OpenAIError"),
    ("mrlclient", "openai", ours_openai, "mrlclient:MRLError"),
    ("voyageai", "voyage", by_voyageai, "voyageai.error:VoyageError"),
    ("mrlclient", "voyage", ours_voyage, "mrlclient:MRLError"),
)


def installed(name: str) -> str | None:
    """The version of a client; None where it is not installed."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def outcome(provider: str, embed: Callable[[Emulator], Any], errors: str, fault: str) -> str:
    """What comes of one fault: `right`, `own error`, `wrong`, `foreign` or `hung`."""
    module, _, name = errors.partition(":")
    own: type[Exception] = getattr(import_module(module), name)
    done: Future[str] = Future()
    with Emulator() as emulator:
        emulator.faults.append(dataclasses.replace(FAULTS[fault], times=99))

        def work() -> None:
            try:
                rows = embed(emulator)
            except own:
                done.set_result("own error")
            except Exception:
                done.set_result("foreign")
            else:
                done.set_result("right" if is_right(rows, provider) else "wrong")

        # A daemon: one that hangs is left behind.
        threading.Thread(target=work, daemon=True).start()
        try:
            return done.result(TIMEOUT + GRACE)
        except TimeoutError:
            return "hung"


def is_right(rows: Any, provider: str) -> bool:
    """Whether these are the vectors of the texts, of any length."""
    address = {"openai": "openai:text-embedding-3-small", "voyage": "voyage:voyage-4"}[provider]
    expected = np.array([emulator_vector(address, text, dimensions=WIDTH) for text in TEXTS])
    try:
        got = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    if got.shape != expected.shape or not np.isfinite(got).all():
        return False
    lengths = np.linalg.norm(got, axis=1)
    if not (lengths > 0).all():
        return False
    cosines = (got * expected).sum(axis=1) / lengths
    # A vector three times too long is right in direction, and wrong in any dot product beside its neighbours.
    return bool((cosines > 0.999).all()) and bool(lengths.max() / lengths.min() < 1.01)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help="these only, by the names of their packages")
    parser.add_argument("--each", action="store_true", help="print what came of each fault, too")
    options = parser.parse_args()
    missing = sorted(set(options.clients) - {name for name, *_ in CLIENTS if installed(name)})
    if missing:
        parser.error(f"not installed, or not known here: {', '.join(missing)}")
    warnings.simplefilter("ignore")
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask the network
    print(f"Python {platform.python_version()}, timeout {TIMEOUT:g} s\n")
    print("| Client | API | Faults | Wrong vectors | Foreign exceptions | Hung |")
    print("| --- | --- | --: | --: | --: | --: |")
    for name, provider, embed, errors in CLIENTS:
        version = installed(name)
        if version is None or (options.clients and name not in options.clients):
            continue
        with Emulator() as emulator:
            # A first call imports, which takes some clients longer than the timeout, and shows that it works at all.
            assert is_right(embed(emulator), provider), name
        names = [fault for fault, made in FAULTS.items() if provider in made.providers and fault not in LEFT_OUT]
        found = {fault: outcome(provider, embed, errors, fault) for fault in names}
        count = Counter(found.values())
        numbers = f"{len(names)} | {count['wrong']} | {count['foreign']} | {count['hung']}"
        print(f"| {name} {version} | {provider} | {numbers} |")
        if options.each:
            for kind in ("wrong", "foreign", "hung"):
                print(f"  {kind}: {', '.join(fault for fault, came in found.items() if came == kind)}")


if __name__ == "__main__":
    main()
