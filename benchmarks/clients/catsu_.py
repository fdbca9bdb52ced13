"""catsu, a client in Rust. It knows the vendor's own address only, over TLS: the server stands there as a proxy.

It asks for no format, and so gets lists of numbers, and hands them out as lists: its `to_numpy` costs more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catsu

from benchmarks.clients import KEY, Client, Settings


class _Catsu:
    def __init__(self, settings: Settings) -> None:
        self._model = f"openai:{settings.model}"
        certificate = Path(settings.certificate).read_text("ascii")
        self._client = catsu.Client(api_keys={"openai": KEY}, proxy=settings.proxy, ca_cert=certificate, timeout=120)

    def bulk(self, texts: list[str]) -> Any:
        return self._client.embed(self._model, texts).embeddings

    def one(self, text: str) -> Any:
        return self._client.embed(self._model, text).embeddings[0]


def make(settings: Settings) -> Client:
    """Its `Client`."""
    return _Catsu(settings)
