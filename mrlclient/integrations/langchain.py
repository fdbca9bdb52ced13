"""Embeddings for LangChain."""

from __future__ import annotations

from mrlclient._frames import discreet
from mrlclient.integrations._embedder import Model, embedder_of, missing

try:
    from langchain_core.embeddings import Embeddings
except ModuleNotFoundError as error:
    raise missing(error, "langchain") from None


class MRLEmbeddings(Embeddings):  # type: ignore[misc, unused-ignore]  # untyped where it is not installed
    """An `Embedder` as LangChain's `Embeddings`: documents and queries in their roles, and async without threads.

    It pickles like its embedder: with its settings, without a key.

    Args:
        model: An address, a profile's values, or an embedder, which you close yourself. By default the address in
            `MRLCLIENT_MODEL`, else the embedded default.
        dimensions: The width of the embeddings. A profile or an embedder has its own, so leave it out with these.

    Attributes:
        embedder: The embedder. If it was made here, close it with `embeddings.embedder.close()`.

    Raises:
        MRLError: As `Embedder`; so do the methods.
    """

    @discreet
    def __init__(self, model: Model = None, *, dimensions: int | None = None) -> None:
        self.embedder = embedder_of(model, dimensions)

    @discreet
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self.embedder.embed_documents(texts).tolist()
        return rows

    @discreet
    def embed_query(self, text: str) -> list[float]:
        row: list[float] = self.embedder.embed_query(text).tolist()
        return row

    @discreet
    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = (await self.embedder.aembed_documents(texts)).tolist()
        return rows

    @discreet
    async def aembed_query(self, text: str) -> list[float]:
        row: list[float] = (await self.embedder.aembed_query(text)).tolist()
        return row

    def __repr__(self) -> str:
        return f"MRLEmbeddings({self.embedder!r})"
