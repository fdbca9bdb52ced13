"""N11: redirects are refused, wherever they lead. Neither the key nor a text gets there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mrlclient import BadRequestError
from mrlclient.testing import Emulator
from tests.faults.matrix import Case, Injection, Site, check, named, openai_at
from tests.faults.server import Connection, answer_well, http, serving
from tests.faults.tls import server_context, trusted

STATUSES = (300, 301, 302, 303, 305, 307, 308)


def redirected(status: int, location: Callable[[str], str] = lambda other: other, *, secure: bool = False) -> Injection:
    """A server that sends the client elsewhere; nobody may get there."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(http(b"", status, f"location: {location(other.url)}\r\n"))
        # On the same connection too.
        other.received.append(connection.read_request())

    @contextmanager
    def inject(_: Emulator) -> Iterator[Site]:
        nonlocal other
        context = server_context("good") if secure else None
        with trusted(), serving(answer_well) as other, serving(script, context) as server:
            yield Site(
                provider=openai_at(server.url),
                requests=lambda: server.connections + other.connections,
                unseeing=lambda: b"".join(other.received),
            )

    other = None
    return inject


def case(name: str, inject: Injection, status: int) -> Case:
    return Case(
        row="N11", name=f"{status}, {name}", inject=inject, expects=BadRequestError, attempts=1, says=str(status)
    )


CASES = [
    *(case("another host", redirected(status), status) for status in STATUSES),
    *(case("the same host", redirected(status, lambda _: "/v2/embeddings"), status) for status in (301, 302, 307, 308)),
    *(case("from https to http", redirected(status, secure=True), status) for status in (301, 307, 308)),
    case("no address", redirected(302, lambda _: ""), 302),
    case("an address that is none", redirected(302, lambda _: "http://[::1"), 302),
    case("a port that is none", redirected(307, lambda _: "http://127.0.0.1:99999999/"), 307),
    case("a file", redirected(307, lambda _: "file:///etc/passwd"), 307),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    assert not check(case, face, emulator).error.retryable
