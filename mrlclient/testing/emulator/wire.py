"""HTTP/1.1 on the loopback: reads requests, sends answers, breaks connections, and closes without a leak."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, cast

from mrlclient.testing.emulator.faults import Fault
from mrlclient.testing.emulator.records import Answer, RecordedRequest, read_json

#: Bodies up to this go out with their headers in one packet; longer ones are not worth a copy.
_JOIN_BYTES = 65_536

Respond = Callable[[RecordedRequest], tuple[Answer, Fault]]


class LoopbackServer:
    """Serves `respond` on a free port of 127.0.0.1, a daemon thread for each connection."""

    def __init__(self, respond: Respond) -> None:
        self._server = _Server(respond)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve, name="emulator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends all connections and threads, also those in the middle of a slow answer."""
        self._server.stopping.set()
        # A connection wakes the accepting thread: it looks no oftener whether to stop, and is not waited for.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._thread.join(timeout=5)
        self._server.server_close()
        self._server.drop_connections()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # so that server_close waits for none: drop_connections does
    request_queue_size = 128

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.stopping = threading.Event()
        self.connection_numbers = itertools.count(1)
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def serve(self) -> None:
        """Accepts connections, until `stopping` is set and one more has come."""
        while not self.stopping.is_set():
            self.handle_request()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self.stopping.is_set()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="emulator", daemon=True
        )
        # Noted here, not in the thread, so that `drop_connections` cannot miss one that has yet to begin.
        with self._lock:
            self._connections[request] = thread
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._connections[request]

    def drop_connections(self) -> None:
        # A thread waits here for its client's next request: it wakes when its connection is shut down.
        with self._lock:
            connections = dict(self._connections)
        for connection, thread in connections.items():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=5)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away is no news; anything else is a fault of a test's own function, or of the emulator.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._owner = cast(_Server, self.server)
        self._number = next(self._owner.connection_numbers)

    def _serve(self) -> None:
        if "transfer-encoding" in self.headers:
            # Clients that know their body's length send it; nothing else is read here.
            self._send(Answer(411), Fault(close="body"))
            return
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = self.path.split("/", 2)
        request = RecordedRequest(
            provider=parts[1] if len(parts) > 1 and parts[1] in ("openai", "voyage") else "",
            method=self.command,
            path=self.path,
            headers=MappingProxyType({name.lower(): value for name, value in self.headers.items()}),
            body=read_json(raw),
            raw=raw,
            connection=self._number,
        )
        self._send(*self._owner.respond(request))

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for

    def _send(self, answer: Answer, fault: Fault) -> None:
        if fault.close is not None:
            self.close_connection = True
        self._pause(fault.delay)
        if fault.close != "before":
            self._send_parts(answer, fault)
        if fault.reset:
            # Lingering for no time: the kernel sends a reset, at once, for there is no other hold on the socket.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()

    def _send_parts(self, answer: Answer, fault: Fault) -> None:
        body: bytes = answer.body
        head = self._head(answer)
        if fault.close == "headers":
            self.wfile.write(head)
        elif fault.close == "body":
            self.wfile.write(head + body[: len(body) // 2])
        elif fault.dribble:
            self.wfile.write(head)
            for byte in body:
                self._pause(fault.dribble)
                self.wfile.write(bytes((byte,)))
        elif fault.stall:
            middle = len(body) // 2
            self.wfile.write(head + body[:middle])
            self._pause(fault.stall)
            self.wfile.write(body[middle:])
        elif len(body) <= _JOIN_BYTES:
            self.wfile.write(head + body)
        else:
            self.wfile.write(head)
            self.wfile.write(body)

    def _head(self, answer: Answer) -> bytes:
        try:
            reason = HTTPStatus(answer.status).phrase
        except ValueError:  # 529 and others that no standard names
            reason = ""
        headers = answer.headers | {"content-length": str(len(answer.body))}
        if self.close_connection:
            headers["connection"] = "close"
        lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _pause(self, seconds: float) -> None:
        if seconds > 0 and self._owner.stopping.wait(seconds):
            raise ConnectionAbortedError("the emulator is closing")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Says nothing: `Emulator.requests` is the log."""
