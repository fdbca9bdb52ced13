"""The practical limit: a socket, a search for the vectors, pybase64. Nothing is checked, and nothing can go wrong."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import numpy as np
import pybase64
from numpy.typing import NDArray

from benchmarks.clients import KEY, Client, Settings

_BEFORE = b'"embedding": "'


class _Raw:
    def __init__(self, settings: Settings) -> None:
        address = urlsplit(settings.url)
        assert address.hostname is not None
        self._model, self._width = settings.model, settings.width
        self._socket = socket.create_connection((address.hostname, address.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = (
            f"POST {address.path}/embeddings HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        )

    def bulk(self, texts: list[str]) -> NDArray[np.float32]:
        asked = {"input": texts, "model": self._model, "encoding_format": "base64"}
        content = json.dumps(asked, separators=(",", ":")).encode()
        self._socket.sendall(f"{self._head}{len(content)}\r\n\r\n".encode() + content)
        body = self._read()
        rows = np.empty((len(texts), self._width), dtype="<f4")
        size, length = self._width * 4, -(-self._width * 4 // 3) * 4
        place = 0
        with memoryview(body) as view, rows.reshape(-1).view(np.uint8).data as out:
            for start in range(0, len(texts) * size, size):
                begin = body.index(_BEFORE, place) + len(_BEFORE)
                place = begin + length
                # To validate is the faster way: otherwise foreign characters are looked for first.
                out[start : start + size] = pybase64.b64decode(view[begin:place], validate=True)
        return rows

    def one(self, text: str) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self.bulk([text])[0]
        return row

    def _read(self) -> bytearray:
        first = bytearray()
        while (end := first.find(b"\r\n\r\n")) < 0:
            first += self._socket.recv(1 << 16)
        start = first.index(b"Content-Length: ") + 16
        length = int(first[start : first.index(b"\r", start)])
        body = bytearray(length)
        got = len(first) - end - 4
        body[:got] = first[end + 4 :]
        with memoryview(body) as view:
            while got < length:
                got += self._socket.recv_into(view[got:])
        return body


def make(settings: Settings) -> Client:
    """A connection."""
    return _Raw(settings)
