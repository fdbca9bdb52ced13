"""N9: every status, whatever stands in the body. The retry table, exactly: each request is counted."""

from __future__ import annotations

import zlib

import pytest

from mrlclient import (
    AuthenticationError,
    BadRequestError,
    MRLError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from mrlclient.testing.emulator import FAULTS, Fault
from tests.faults.matrix import Case, check, named, of_emulator

#: As published, written out: the code's own list is not what it is checked against.
RETRIED = {408, 409, 424, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
STATUSES = range(300, 600)

_OTHERS: dict[int, type[MRLError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    408: ProviderTimeoutError,
    424: ServerError,
    429: RateLimitError,
}

#: Of several, the refused one would be looked for.
_TEXT = ("a first text, which nobody else may see",)

_SECRET = {"error": {"message": "Invalid: a first text, which nobody else may see", "code": "c"}, "detail": "d"}

#: Bodies that come with an error, each good for any status.
BODIES: dict[str, Fault] = {
    "openai's": Fault(body={"error": {"message": "No.", "type": "t", "param": None, "code": None}}),
    "voyage's": Fault(body={"detail": "No."}),
    "nothing": Fault(),
    "html": Fault(body=b"<html><h1>Sorry</h1></html>", headers={"content-type": "text/html"}),
    "a list": Fault(body=b'["no"]'),
    "null": Fault(body=b"null"),
    "an error of text": Fault(body=b'{"error": "no"}'),
    "odd types": Fault(body=b'{"error": {"message": {"a": [1]}, "code": 7}, "detail": [{"loc": ["body"]}]}'),
    "not utf-8": Fault(body=b'{"error": {"message": "\xff"}}'),
    "cut off": Fault(body=b'{"error": {"mess'),
    "compressed": Fault(body=zlib.compress(b"{}"), headers={"content-encoding": "deflate"}),
    "a text": Fault(body=_SECRET),
    "right vectors": Fault(body=b'{"data": [{"index": 0, "embedding": "AACAPw=="}]}'),
    "long": Fault(body={"error": {"message": "no " * 50_000}}),
}
_NO_BODY = {304}


def kind_of(status: int) -> type[MRLError]:
    return _OTHERS.get(status, BadRequestError if status < 500 else ServerError)


def case(status: int, body: str) -> Case:
    fault = BODIES["nothing" if status in _NO_BODY else body]
    lasting = Fault(status=status, body=fault.body, headers=fault.headers, times=99)
    return Case(
        row="N9",
        name=f"{status}, {body}",
        inject=of_emulator(lasting, provider="voyage" if body == "voyage's" else "openai"),
        expects=kind_of(status),
        attempts=4 if status in RETRIED else 1,
        max_attempts=4,
        texts=_TEXT,
        says=str(status),
    )


def once(status: int) -> Case:
    return Case(
        row="N9",
        name=f"{status}, once",
        inject=of_emulator(Fault(status=status)),
        expects=None,
        attempts=2,
        max_attempts=2,
    )


def refusal(name: str, fault: Fault, kind: type[MRLError], attempts: int, says: str = "") -> Case:
    return Case(
        row="N9",
        name=name,
        inject=of_emulator(Fault(status=fault.status, body=fault.body, headers=fault.headers, times=99)),
        expects=kind,
        attempts=attempts,
        max_attempts=4,
        texts=_TEXT,
        says=says,
    )


_OBEYED = {"x-should-retry": "false"}
_UNHEEDED = {"x-should-retry": "true"}

CASES = [
    *(case(status, list(BODIES)[status % len(BODIES)]) for status in STATUSES),
    *(once(status) for status in sorted(RETRIED)),
    refusal("a rate limit", FAULTS["openai_rate_limited"], RateLimitError, 4, "1 s"),
    refusal("out of credit", FAULTS["openai_insufficient_quota"], QuotaError, 1),
    refusal("a request above the limit", FAULTS["openai_request_too_large"], RateLimitError, 1),
    *(
        refusal(f"{status} that should not be retried", Fault(status=status, headers=_OBEYED), kind_of(status), 1)
        for status in (408, 409, 429, 500, 503, 529)
    ),
    *(
        refusal(
            f"{status} that should be retried, says the server",
            Fault(status=status, headers=_UNHEEDED),
            kind_of(status),
            1,
        )
        for status in (401, 404, 501)
    ),
]

#: Every status with every body.
ALL = [case(status, body) for status in STATUSES for body in BODIES]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)


@pytest.mark.soak
def test_every_status_with_every_body(face, emulator):
    for each in ALL:
        check(each, face, emulator)
