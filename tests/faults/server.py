"""A server on a bare socket, for what no HTTP server can be brought to do, and the right answer to spoil."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from mrlclient import ModelSpec, OpenAI
from mrlclient.testing.emulator import emulator_vector

MODEL = "openai:text-embedding-3-small"
KEY = "sk-canary-key"

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Connection:
    """One client, to be treated badly."""

    def __init__(self, sock: socket.socket, number: int, stopping: threading.Event) -> None:
        self.sock = sock
        self.number = number
        self._stopping = stopping

    def read_request(self) -> bytes:
        """The head and the body of a request; empty where the client has gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := self.sock.recv(65_536)):
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        missing = int(length[1]) - len(body) if length else 0
        parts = [data]
        while missing > 0 and (more := self.sock.recv(65_536)):
            parts.append(more)
            missing -= len(more)
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_slowly(self, data: bytes, pause: float) -> None:
        """A byte at a time."""
        for byte in data:
            self.send(bytes((byte,)))
            self.wait(pause)

    def wait(self, seconds: float = 60.0) -> None:
        """Silence, which ends early where the server is closed."""
        if self._stopping.wait(seconds):
            raise ConnectionAbortedError

    def reset(self) -> None:
        """Ends with a reset instead of in order."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Script = Callable[[Connection], None]


class FaultServer:
    """Plays `script` to each connection, in a thread of its own.

    Attributes:
        connections: How many there were.
        received: All that clients sent and the script read, of TLS the plain text.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._script = script
        self._tls = tls
        self._stopping = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        self.connections = 0
        self.received: list[bytes] = []
        self._open: list[tuple[socket.socket, threading.Thread]] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for sock, thread in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._socket.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                thread = threading.Thread(target=self._play, args=(sock, self.connections), daemon=True)
                self._open.append((sock, thread))
                thread.start()

    def _play(self, sock: socket.socket, number: int) -> None:
        # A client that gives up, or a certificate that it does not take, is what is being tested.
        with contextlib.suppress(OSError), contextlib.closing(sock):
            plain = self._tls.wrap_socket(sock, server_side=True) if self._tls else sock
            with contextlib.closing(plain):
                self._script(_Recorded(plain, number, self._stopping, self.received))


class _Recorded(Connection):
    def __init__(self, sock: socket.socket, number: int, stopping: threading.Event, received: list[bytes]) -> None:
        super().__init__(sock, number, stopping)
        self._received = received

    def read_request(self) -> bytes:
        request = super().read_request()
        if request:
            self._received.append(request)
        return request


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[FaultServer]:
    server = FaultServer(script, tls, port)
    try:
        yield server
    finally:
        server.close()


def right_payload(request: bytes) -> dict[str, object]:
    """The payload that answers a request of OpenAI's shape."""
    body = json.loads(request.partition(b"\r\n\r\n")[2])
    width = body.get("dimensions")
    rows = [emulator_vector(MODEL, text, dimensions=width).astype("<f4") for text in body["input"]]
    data = [
        {"object": "embedding", "index": i, "embedding": base64.b64encode(row.tobytes()).decode()}
        for i, row in enumerate(rows)
    ]
    return {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def http(body: bytes, status: int = 200, headers: str = "", *, length: bool = True) -> bytes:
    """An HTTP answer."""
    size = f"content-length: {len(body)}\r\n" if length else ""
    return f"HTTP/1.1 {status} Status\r\n{size}{headers}\r\n".encode() + body


def right_answer(request: bytes, headers: str = "", *, length: bool = True) -> bytes:
    """The answer that a good server gives."""
    return http(json.dumps(right_payload(request)).encode(), headers=headers, length=length)


def answer_well(connection: Connection) -> None:
    """Answers every request of a connection as it should be."""
    while request := connection.read_request():
        connection.send(right_answer(request))


# --- a model of two numbers, where many texts have to be cheap

#: The texts of the tiny model are hexadecimal numbers below this.
TINY_TEXTS = 2**20


def tiny_rows(numbers: Iterable[int]) -> NDArray[np.float32]:
    """(n, 2) float32: a direction for each number, far enough from its neighbours'."""
    angles = np.fromiter(numbers, dtype=np.float64) * (2 * np.pi / TINY_TEXTS)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("<f4")


def tiny_answer(texts: Sequence[str]) -> bytes:
    """The answer for these texts, last row first."""
    rows = tiny_rows(int(text, 16) for text in texts)
    data = [{"index": i, "embedding": base64.b64encode(row.tobytes()).decode()} for i, row in enumerate(rows)]
    return http(json.dumps({"data": data[::-1], "model": "tiny"}).encode())


def tiny_provider(url: str) -> OpenAI:
    return OpenAI(
        ModelSpec(provider="openai", name="tiny", native_dimensions=2, matryoshka=False), api_key=KEY, base_url=url
    )


def texts_of(request: bytes) -> list[str]:
    """The texts of a request."""
    return json.loads(request.partition(b"\r\n\r\n")[2])["input"]
