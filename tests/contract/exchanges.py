"""One exchange with a server of bare sockets, by way of each face."""

from __future__ import annotations

from dataclasses import replace

import anyio

from mrlclient.errors import MRLError
from mrlclient.providers._credentials import Secret
from mrlclient.providers._exchange import Request
from mrlclient.providers._http import HTTPTransport
from tests.contract.raw_server import read_request

FACES = ["sync", "asyncio", "trio"]
KEY, TEXT = "sk-canary-key", "canary text"
REQUEST = Request({"input": [TEXT]}, 1000)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def transport_to(url, timeout=5.0):
    return HTTPTransport(url + "/embeddings", Secret(KEY), "acme", timeout)


def exchange(url, face, timeout=5.0, most=1000):
    """The reply, or our error for the failure."""
    transport, request = transport_to(url, timeout), replace(REQUEST, max_response_bytes=most)

    async def main():
        try:
            return await transport.asend(request)
        except Exception as failure:
            return failure if isinstance(failure, MRLError) else transport.translate(failure)
        finally:
            await transport.aclose()

    if face != "sync":
        return anyio.run(main, backend=face)
    try:
        return transport.send(request)
    except Exception as failure:
        return failure if isinstance(failure, MRLError) else transport.translate(failure)
    finally:
        transport.close()


def answers(server, connection):
    """Answers every request on a connection."""
    while read_request(connection)[0]:
        connection.sendall(ANSWER)
