"""N3: proxies of the environment. Honoured; a login is not asked for twice; the key goes through, never to them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from mrlclient import ProviderConnectionError
from mrlclient.testing import Emulator
from tests.faults.matrix import Case, Injection, Site, check, named, openai_at, then_well
from tests.faults.server import Connection, FaultServer, Script, answer_well, http, serving
from tests.faults.tls import server_context, trusted

PASSWORD = "canary-password"


def tunnel(connection: Connection) -> None:
    """Does what a proxy does: connects, and carries what it cannot read."""
    head = connection.read_request()
    host, _, port = head.split(b" ")[1].decode().rpartition(":")
    with socket.create_connection((host, int(port))) as target:
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=carry, args=(target, connection.sock), daemon=True)
        back.start()
        carry(connection.sock, target)
        back.join(5)


def carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def refuses(status: int) -> Script:
    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(http(b"no", status))

    return script


def dies(connection: Connection) -> None:
    connection.read_request()


def dies_in_the_tunnel(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    connection.sock.recv(65_536)


Environment = Callable[[str], dict[str, str]]


def https_proxy(url: str) -> dict[str, str]:
    return {"HTTPS_PROXY": url}


def through(script: Script, environment: Environment = https_proxy, *, used: bool = True) -> Injection:
    """A good server behind a proxy; each connection to the proxy, or past it, is an attempt."""

    @contextmanager
    def inject(_: Emulator) -> Iterator[Site]:
        with serving(answer_well, server_context("good")) as server, serving(script) as proxy:
            with trusted(**environment(f"http://127.0.0.1:{proxy.port}")):
                asked = (lambda: proxy.connections) if used else (lambda: server.connections - proxy.connections)
                yield Site(provider=openai_at(server.url), requests=asked, unseeing=lambda: b"".join(proxy.received))
            if used:
                assert all(head.startswith(b"CONNECT 127.0.0.1:") for head in proxy.received)
            else:
                assert proxy.connections == 0

    return inject


@contextmanager
def gone(_: Emulator) -> Iterator[Site]:
    """A proxy that nobody runs."""
    proxy = FaultServer(dies)
    proxy.close()
    with serving(answer_well, server_context("good")) as server, trusted(HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}"):
        yield Site(provider=openai_at(server.url), requests=None)
        # Going past it would be a leak of its own.
        assert server.connections == 0


def good(name: str, inject: Injection, attempts: int = 1) -> Case:
    return Case(row="N3", name=name, inject=inject, expects=None, attempts=attempts)


def bad(name: str, inject: Injection, attempts: int, says: str = "") -> Case:
    return Case(row="N3", name=name, inject=inject, expects=ProviderConnectionError, attempts=attempts, says=says)


CASES = [
    good("HTTPS_PROXY", through(tunnel)),
    good("https_proxy", through(tunnel, lambda url: {"https_proxy": url})),
    good("ALL_PROXY", through(tunnel, lambda url: {"ALL_PROXY": url})),
    good("HTTP_PROXY, not for https", through(tunnel, lambda url: {"HTTP_PROXY": url}, used=False)),
    good("NO_PROXY", through(tunnel, lambda url: {"HTTPS_PROXY": url, "NO_PROXY": "127.0.0.1"}, used=False)),
    good("NO_PROXY of another host", through(tunnel, lambda url: {"HTTPS_PROXY": url, "NO_PROXY": "other.invalid"})),
    bad("407", through(refuses(407)), 1, "407"),
    bad("502 of the proxy", through(refuses(502)), 5),
    bad("it dies", through(dies), 5),
    bad("it dies in the tunnel", through(dies_in_the_tunnel), 5),
    bad("it is gone", gone, 5),
    good("it dies, once", through(then_well(dies, tunnel)), 2),
    good("502 of the proxy, once", through(then_well(refuses(502), tunnel)), 2),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)


def test_a_password_of_a_proxy_goes_to_the_proxy_and_into_no_message(face, emulator):
    heads: list[bytes] = []

    def script(connection: Connection) -> None:
        heads.append(connection.read_request())
        connection.send(http(b"no", 407))

    def environment(url: str) -> dict[str, str]:
        return {"HTTPS_PROXY": url.replace("//", f"//user:{PASSWORD}@")}

    outcome = check(bad("a wrong password", through(script, environment), 1), face, emulator)
    assert b"Proxy-Authorization: Basic " in heads[0]
    assert PASSWORD not in f"{outcome.error} {outcome.error!r} {vars(outcome.error)}"
