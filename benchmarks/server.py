"""A server in a process of its own that answers at once with bytes made before: all that is measured is the client.

It speaks OpenAI's and Voyage's API over HTTP and over TLS, looks at nothing but how many texts there are and in which
form they are wanted, and counts connections, requests and texts. It is a proxy as well (`CONNECT`), which is itself at
the other end: for a client that knows only the vendor's own address.
"""

from __future__ import annotations

import base64
import itertools
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from io import IOBase
from pathlib import Path
from typing import Any

import numpy as np
import trustme

from benchmarks.processes import answer, pin

#: Where nothing is said of the width.
_NATIVE = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
#: As many different vectors as an answer has; then they come again.
_DISTINCT = 64


class Server:
    """Two listeners, HTTP and TLS, and what they have seen.

    Args:
        certificate: Where the certificate goes that clients have to trust.
    """

    def __init__(self, certificate: Path) -> None:
        self._latency = 0.0
        self._floats = False
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._used: set[int] = set()
        self._requests = self._texts = 0
        self._answers: dict[tuple[int, int, bool, str], bytes] = {}
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(certificate))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost", "api.openai.com").configure_cert(self._tls)

    def listen(self, *, tls: bool) -> int:
        """Starts a listener; its port."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection, tls), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    def configure(self, latency: float = 0.0, *, floats: bool = False) -> None:
        """How it answers from now on: after how many seconds, and whether with lists of numbers whatever is asked."""
        self._latency, self._floats = latency, floats

    def seen(self) -> dict[str, int]:
        """Connections that were opened or used since this was last asked, and requests and texts."""
        with self._lock:
            seen = {"connections": len(self._used), "requests": self._requests, "texts": self._texts}
            self._used, self._requests, self._texts = set(), 0, 0
        return seen

    def size(self, count: int, width: int, *, floats: bool = False) -> int:
        """Bytes of an answer's body."""
        return len(_body(count, width, floats, "text-embedding-3-small"))

    def _serve(self, connection: socket.socket, tls: bool) -> None:
        number = next(self._numbers)
        self._count(number)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            reader = connection.makefile("rb", 1 << 16)
            while line := reader.readline():
                length = _content_length(reader)
                if line.startswith(b"CONNECT "):
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    connection = self._tls.wrap_socket(connection, server_side=True)
                    reader = connection.makefile("rb", 1 << 16)
                    continue
                made, texts = self._answer(json.loads(reader.read(length)))
                self._count(number, requests=1, texts=texts)
                if self._latency:
                    time.sleep(self._latency)
                connection.sendall(made)
        except OSError:
            pass  # the client has gone
        finally:
            connection.close()

    def _answer(self, request: Mapping[str, Any]) -> tuple[bytes, int]:
        texts = request["input"]
        # One text, or the tokens of one, stand without a list around them.
        count = 1 if isinstance(texts, str) or isinstance(texts[0], int) else len(texts)
        model = request["model"]
        width = request.get("dimensions") or request.get("output_dimension") or _NATIVE.get(model, 1024)
        floats = self._floats or request.get("encoding_format") != "base64"
        key = (count, width, floats, model)
        if key not in self._answers:
            body = _body(*key)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self._answers[key] = head.encode() + body
        return self._answers[key], count

    def _count(self, number: int, requests: int = 0, texts: int = 0) -> None:
        with self._lock:
            self._used.add(number)
            self._requests += requests
            self._texts += texts


def _content_length(reader: IOBase) -> int:
    """Reads a head to its end; the length of the body after it."""
    length = 0
    while (line := reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        elif name.lower() == b"transfer-encoding":
            raise OSError("a body without its length is not read here")
    return length


def _body(count: int, width: int, floats: bool, model: str) -> bytes:
    """An answer as OpenAI lays it out, which Voyage's client reads too. Lists are compact, as most servers send."""
    rows = np.random.default_rng(0).standard_normal((min(count, _DISTINCT), width))
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4")
    vectors: list[Any]
    if floats:
        vectors = [[float(f"{number:.9g}") for number in row] for row in unit.tolist()]
    else:
        vectors = [base64.b64encode(row.tobytes()).decode() for row in unit]
    # Rows that come again are made once: a list of numbers takes long to write.
    names = [f"vector {i}" for i in range(len(vectors))]
    answer = {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": names[i % len(names)]} for i in range(count)],
        "model": model,
        "usage": {"prompt_tokens": 8 * count, "total_tokens": 8 * count},
    }
    body = json.dumps(answer, separators=(",", ":")) if floats else json.dumps(answer, indent=2)
    pieces = body.split('"vector ')
    made = {name: json.dumps(vector, separators=(",", ":")) for name, vector in zip(names, vectors, strict=True)}
    filled = [pieces[0]]
    for piece in pieces[1:]:
        number, _, rest = piece.partition('"')
        filled += (made[f"vector {number}"], rest)
    return "".join(filled).encode()


def _start() -> tuple[dict[str, int], dict[str, Callable[..., Any]]]:
    certificate, core = json.loads(sys.argv[1])
    pin(core)
    server = Server(Path(certificate))
    ports = {"http": server.listen(tls=False), "https": server.listen(tls=True)}
    return ports, {"configure": server.configure, "seen": server.seen, "size": server.size}


if __name__ == "__main__":
    answer(_start)
