"""What a careful user would write: httpx2, the long strings cut out, the rest parsed as JSON, pybase64."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pybase64
from numpy.typing import NDArray

from benchmarks.clients import KEY, Many, Settings, trust

_BEFORE = re.compile(rb'"embedding":\s*"')


class _Bare:
    def __init__(self, settings: Settings) -> None:
        trust(settings)
        self._settings = settings
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            timeout=60.0,
        )
        self._threads = ThreadPoolExecutor(settings.concurrency)

    def bulk(self, texts: list[str]) -> NDArray[np.float32]:
        asked = {"input": texts, "model": self._settings.model, "encoding_format": "base64"}
        content = json.dumps(asked, separators=(",", ":")).encode()
        answer = self._client.post(f"{self._settings.url}/embeddings", content=content)
        answer.raise_for_status()
        return _decode(answer.content, len(texts), self._settings.width)

    def one(self, text: str) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self.bulk([text])[0]
        return row

    def many(self, texts: list[str]) -> NDArray[np.float32]:
        size = self._settings.batch
        rows = np.empty((len(texts), self._settings.width), dtype=np.float32)

        def fill(start: int) -> None:
            rows[start : start + size] = self.bulk(texts[start : start + size])

        list(self._threads.map(fill, range(0, len(texts), size)))
        return rows


def _decode(body: bytes, count: int, width: int) -> NDArray[np.float32]:
    length = -(-width * 4 // 3) * 4
    kept, spans, place = [], [], 0
    while (found := _BEFORE.search(body, place)) is not None:
        kept.append(body[place : found.end()])
        place = found.end() + length
        spans.append((found.end(), place))
    kept.append(body[place:])
    data = json.loads(b"".join(kept))["data"]
    if len(data) != count or len(spans) != count:
        raise ValueError("the answer has not as many vectors as there are texts")
    rows, size = np.empty((count, width), dtype="<f4"), width * 4
    with memoryview(body) as view, rows.reshape(-1).view(np.uint8).data as out:
        for item, (begin, end) in zip(data, spans, strict=True):
            start = item["index"] * size
            out[start : start + size] = pybase64.b64decode(view[begin:end], validate=True)
    return rows


def make(settings: Settings) -> Many:
    """A pool of connections."""
    return _Bare(settings)
