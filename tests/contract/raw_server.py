"""A server of bare sockets: each connection is given to a function, which may do to it what it likes."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress


class RawServer:
    """Listens on a port of 127.0.0.1.

    Attributes:
        port: The port.
        accepted: Connections so far.
        ended: Set when a handler has ended because the other side went away.
    """

    def __init__(self, handle, context=None):
        self._handle, self._context = handle, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.accepted = 0
        self.ended = threading.Event()
        self.stopped = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with suppress(OSError), connection:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                try:
                    self._handle(self, connection)
                except OSError:
                    self.ended.set()

    def drip(self, connection, data, pause=0.05):
        """Sends byte after byte, until it is stopped or the other side goes away."""
        for value in data:
            connection.sendall(bytes([value]))
            if self.stopped.wait(pause):
                return

    def stop(self):
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def raw_server(handle, context=None):
    """Runs a server that calls `handle(server, connection)` in a thread for each connection."""
    server = RawServer(handle, context)
    try:
        yield server
    finally:
        server.stop()


def read_request(connection):
    """Reads one request with a body, and returns its head and its body; the head is empty where none came."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return b"", b""
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head, body
