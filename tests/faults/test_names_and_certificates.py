"""N2: names that are not found are tried again; certificates that do not verify are not, and no key is sent."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args
from unittest.mock import patch

import pytest

from mrlclient import ProviderConnectionError
from mrlclient.testing import Emulator
from tests.faults.matrix import Case, Injection, Site, check, named, openai_at, site_of
from tests.faults.server import Connection, answer_well, http, serving
from tests.faults.tls import Certificate, server_context, trusted


def name_not_found(times: int) -> Injection:
    """`localhost` has no address so many times, and then its own."""

    @contextmanager
    def inject(_: Emulator) -> Iterator[Site]:
        asked: list[str] = []
        resolve = socket.getaddrinfo

        def getaddrinfo(host, port, *args, **options):
            if host not in ("localhost", b"localhost"):
                return resolve(host, port, *args, **options)
            asked.append("localhost")
            if len(asked) <= times:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return resolve("127.0.0.1", port, *args, **options)

        with serving(answer_well) as server, patch.object(socket, "getaddrinfo", getaddrinfo):
            provider = openai_at(server.url.replace("127.0.0.1", "localhost"))
            yield Site(provider=provider, requests=lambda: len(asked))

    return inject


def with_certificate(certificate: Certificate) -> Injection:
    @contextmanager
    def inject(_: Emulator) -> Iterator[Site]:
        with trusted(), serving(answer_well, server_context(certificate)) as server:
            yield site_of(server, unseeing=certificate != "good")

    return inject


@contextmanager
def no_tls_there(_: Emulator) -> Iterator[Site]:
    """We speak TLS; the server does not."""

    def script(connection: Connection) -> None:
        server.received.append(connection.sock.recv(65_536))
        connection.send(http(b"This is no TLS.", 400))

    with trusted(), serving(script) as server:
        provider = openai_at(server.url.replace("http:", "https:"))
        yield Site(provider=provider, requests=lambda: server.connections, unseeing=lambda: b"".join(server.received))


@contextmanager
def ended_in_the_handshake(_: Emulator) -> Iterator[Site]:
    def script(connection: Connection) -> None:
        server.received.append(connection.sock.recv(65_536))

    with trusted(), serving(script) as server:
        provider = openai_at(server.url.replace("http:", "https:"))
        yield Site(provider=provider, requests=lambda: server.connections, unseeing=lambda: b"".join(server.received))


@contextmanager
def tls_there(_: Emulator) -> Iterator[Site]:
    """We speak no TLS, which is allowed on the loopback only; the server does."""
    with serving(answer_well, server_context("good")) as server:
        provider = openai_at(server.url.replace("https:", "http:"))
        yield Site(provider=provider, requests=lambda: server.connections)


def case(name: str, inject: Injection, attempts: int, *, good: bool = False, says: str = "") -> Case:
    expects = None if good else ProviderConnectionError
    return Case(row="N2", name=name, inject=inject, expects=expects, attempts=attempts, says=says)


CASES = [
    case("a name that is not found", name_not_found(99), 5),
    case("a name that is not found, once", name_not_found(1), 2, good=True),
    case("a good certificate", with_certificate("good"), 1, good=True),
    *(
        case(f"a certificate that is {kind}", with_certificate(kind), 1, says="CERTIFICATE_VERIFY_FAILED")
        for kind in get_args(Certificate)
        if kind != "good"
    ),
    case("no TLS on a TLS port", no_tls_there, 5),
    case("ended in the handshake", ended_in_the_handshake, 5),
    case("TLS on a port without", tls_there, 5),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)
