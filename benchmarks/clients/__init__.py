"""The clients that are measured, each in a module of its own with a function `make(settings)`.

What `make` returns has `bulk(texts)` and `one(text)`, as the client's own documentation shows the call, and maybe
`many(texts)`: requests of `settings.batch` texts, `settings.concurrency` of them under way. Each returns what the
client hands out, lists or a matrix: nothing is converted.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Protocol


class Settings(NamedTuple):
    """What a client is told.

    Attributes:
        url: The server, to be continued with `/embeddings`.
        folder: Where the certificate to trust is, `ca.pem`, and where files may go.
        proxy: The server as a proxy, for a client that knows only the vendor's address.
        width: The numbers in a vector.
        batch: Texts in a request of `many`.
        concurrency: Requests of `many` under way.
        variant: What a module with several clients is to make.
    """

    url: str
    folder: str
    proxy: str
    width: int = 1536
    batch: int = 2048
    concurrency: int = 4
    variant: str = ""

    @property
    def certificate(self) -> str:
        """The file of the certificate to trust."""
        return f"{self.folder}/ca.pem"

    @property
    def model(self) -> str:
        """The model that has this width."""
        return "text-embedding-3-large" if self.width == 3072 else "text-embedding-3-small"


class Client(Protocol):
    """What is measured."""

    def bulk(self, texts: list[str]) -> Any:
        """The vectors of many texts, in one call."""

    def one(self, text: str) -> Any:
        """The vector of one text."""


class Many(Client, Protocol):
    """A client of which the throughput is measured too."""

    def many(self, texts: list[str]) -> Any:
        """The vectors of very many texts, in many requests."""


class Contender(NamedTuple):
    """A row of a table.

    Attributes:
        label: What it is called there.
        module: The module under `benchmarks.clients`.
        environment: Where it runs.
        variant: Which of the module's clients it is.
    """

    label: str
    module: str
    environment: str
    variant: str = ""


#: The key of no account.
KEY = "sk-benchmark"

CONTENDERS: dict[str, Contender] = {
    "limit": Contender("raw socket, no checks", "raw", "mrlclient"),
    "httpx2": Contender("httpx2, decoded by hand", "bare", "mrlclient"),
    "mrlclient": Contender("mrlclient", "ours", "mrlclient"),
    "async": Contender("mrlclient, async", "ours", "mrlclient", "async"),
    "plain": Contender("mrlclient, without optional wheels", "ours", "mrlclient-plain"),
    "memory": Contender("mrlclient, from `MemoryCache`", "ours", "mrlclient", "memory"),
    "sqlite": Contender("mrlclient, from `SQLiteCache`", "ours", "mrlclient", "sqlite"),
    "openai": Contender("openai", "openai_", "openai"),
    "openai-float": Contender('openai, `encoding_format="float"`', "openai_", "openai", "float"),
    "openai-async": Contender("openai, async", "openai_", "openai", "async"),
    "voyageai": Contender("voyageai", "voyageai_", "voyageai"),
    "voyageai-async": Contender("voyageai, async", "voyageai_", "voyageai", "async"),
    "pydantic-ai": Contender("pydantic-ai", "pydantic_ai_", "pydantic-ai"),
    "langchain-openai": Contender("langchain-openai", "langchain_", "langchain-openai"),
    "litellm": Contender("litellm", "litellm_", "litellm"),
    "catsu": Contender("catsu", "catsu_", "catsu"),
}

#: What is in the environment of each.
VARIABLES = {
    "OPENAI_API_KEY": KEY,
    "VOYAGE_API_KEY": KEY,
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would ask the network
    "TOKENIZERS_PARALLELISM": "false",
}


def in_batches(texts: list[str], size: int) -> list[list[str]]:
    """Texts, request by request."""
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def trust(settings: Settings) -> None:
    """The certificate that everything on top of OpenSSL is to trust."""
    if settings.url.startswith("https:"):
        os.environ["SSL_CERT_FILE"] = settings.certificate
