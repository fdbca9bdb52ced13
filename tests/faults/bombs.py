"""Answers that are far larger than they look, and how much memory they cost: ``python -m tests.faults.bombs URL FACE``.

The address is of a server that answers the first request well; each further one is a bomb.
"""

from __future__ import annotations

import base64
import json
import resource
import sys
import zlib
from functools import cache

from mrlclient import Embedder, MRLError
from tests.faults.matrix import TEXTS, embed, openai_at
from tests.faults.server import Connection, Script, http

_MB = 2**20

#: 400 MB of zeros, as brotli packs them.
_BROTLI = (
    "z///f/gnAOKxQCD3/p/////wTwDEYQGA7v0/////4Z8AiMMiAN37f/7//8M/ARCHBQC69//8//+HfwIgDgsAdO//+f//D/8EQBwWAOje//P//x/+CYA4"
    "LADQvf/n//8//BMAcVgAoHv/z///f/gnAOKwAED3/p/////wTwDEYQGA7v0/////4Z8AiMMCAN37f/7//8M/ARCHBQC69//8//+HfwIgDgsAdO//+f//"
    "D/8EQBwWAOje//P//x/+CYA4LADQvf/n//8//BMAcVgAoHv/z///f/gnAOKwAED3/p/////wTwDEYQGA7v0/////4Z8AiMMCAN37f/7//8M/ARCHBQC6"
    "9//8//+HfwIgDgsAdO//+f//D/8EQBwWAOje//P//x/+CYA4LADQvf/n//8//BMAcVgAoHv/n/////gnAOKwAED3/h8="
)


@cache
def _deflated(bits: int) -> bytes:
    """160 MB of zeros, packed by zlib."""
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    return b"".join([*(packer.compress(bytes(_MB)) for _ in range(160)), packer.flush()])


def _packed(encoding: str, status: int) -> Script:
    def script(connection: Connection) -> None:
        connection.read_request()
        bits = {"gzip": 31, "deflate": 15}
        body = base64.b64decode(_BROTLI) if encoding == "br" else _deflated(bits[encoding])
        connection.send(http(body, status, f"content-encoding: {encoding}\r\n"))

    return script


def _blanks(status: int, megabytes: int) -> Script:
    """Says how long the body will be, and sends it."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(http(b"", status, f"content-length: {megabytes * _MB}\r\n", length=False))
        for _ in range(megabytes):
            connection.send(b" " * _MB)

    return script


def _endless_chunk(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n")
    for _ in range(2048):
        connection.send(b" " * _MB)


def _endless_head(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\n")
    for _ in range(200):
        connection.send(b"x-more: %s\r\n" % (b"x" * _MB))


def _endless_reason(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 ")
    for _ in range(200):
        connection.send(b"x" * _MB)


#: By name: the script, the status where it is an error's, and the attempts that it gets of five.
BOMBS: dict[str, tuple[Script, int | None, int]] = {
    "gzip": (_packed("gzip", 200), None, 3),
    "deflate": (_packed("deflate", 200), None, 3),
    "brotli": (_packed("br", 200), None, 3),
    "gzip in an error": (_packed("gzip", 500), 500, 5),
    "brotli in an error": (_packed("br", 404), 404, 1),
    "a length of 2 GB": (_blanks(200, 2048), None, 3),
    "an error of 50 MB": (_blanks(503, 50), 503, 5),
    "a chunk of 4 GB": (_endless_chunk, None, 3),
    "a head without end": (_endless_head, None, 5),
    "a first line without end": (_endless_reason, None, 5),
}


def main(url: str, face: str) -> None:
    """Prints each bomb's error, and by how many bytes the peak of memory grew over all."""
    errors = []
    with Embedder(openai_at(url, 20.0), max_attempts=1) as embedder:
        embed(embedder, face, TEXTS)
        before = _peak()
        for _ in BOMBS:
            try:
                embed(embedder, face, TEXTS)
            except MRLError as error:
                errors.append(type(error).__name__)
    print(json.dumps({"errors": errors, "grown": _peak() - before}))


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(*sys.argv[1:])
