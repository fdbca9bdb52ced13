"""LangChain's class over OpenAI's client, told to send texts: with its defaults it would fetch a tokenizer.

The vectors come as lists of numbers.
"""

from __future__ import annotations

from langchain_openai import OpenAIEmbeddings

from benchmarks.clients import KEY, Client, Settings, trust


class _LangChain:
    def __init__(self, settings: Settings) -> None:
        trust(settings)
        self._embeddings = OpenAIEmbeddings(
            model=settings.model,
            api_key=KEY,
            base_url=settings.url,
            check_embedding_ctx_length=False,
            chunk_size=settings.batch,
        )

    def bulk(self, texts: list[str]) -> list[list[float]]:
        return self._embeddings.embed_documents(texts)

    def one(self, text: str) -> list[float]:
        return self._embeddings.embed_query(text)


def make(settings: Settings) -> Client:
    """`OpenAIEmbeddings`."""
    return _LangChain(settings)
