"""The emulator's faults: what each does to an answer, and which request takes it."""

import base64
import json
import time
from dataclasses import replace

import httpx2
import numpy as np
import pytest

from mrlclient.testing.emulator import FAULTS, Fault, emulator_vector
from tests.contract.test_emulator import MODELS, TEXTS, WIDTH_FIELD, asking, http_client  # noqa: F401 - fixtures

# Faults. What a strict client makes of an answer is written out here, so that `expects` is more than a claim.

PERMANENT_CODES = {"insufficient_quota"}


def no_duplicates(pairs):
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def no_constant(name):
    raise ValueError(name)


def read_row(embedding, asked):
    if isinstance(embedding, str):
        row = np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    elif all(type(number) is float for number in embedding):
        row = np.array(embedding, dtype=np.float32)
    else:
        raise ValueError("not numbers")
    if len(row) not in (asked, 1024, 1536):  # the default widths come from a server that ignores the width
        raise ValueError("width")
    return row


def outcome(response, provider, asked):
    if response.status_code != 200:
        text = response.text
        if response.headers.get("x-should-retry") == "false" or "Request too large" in text:
            return "permanent"
        if any(code in text for code in PERMANENT_CODES):
            return "permanent"
        return "retryable" if response.status_code in (408, 409, 429) or response.status_code >= 500 else "permanent"
    try:
        payload = json.loads(response.content.decode(), object_pairs_hook=no_duplicates, parse_constant=no_constant)
        data = payload["data"]
        assert payload["model"] == MODELS[provider]
        assert all(type(row["index"]) is int for row in data)
        data = sorted(data, key=lambda row: row["index"])
        assert [row["index"] for row in data] == list(range(len(TEXTS)))
        rows = [read_row(row["embedding"], asked) for row in data]
        assert len({len(row) for row in rows}) == 1
    except (ValueError, KeyError, TypeError, AssertionError, RecursionError):
        return "contract_error"
    bad = [not (np.isfinite(row).all() and 1e-6 < np.linalg.norm(row.astype(float)) < 1.01) for row in rows]
    if any(bad):
        return "contract_error" if all(bad) else "bad_row"
    address = f"{provider}:{MODELS[provider]}"
    for text, row in zip(TEXTS, rows, strict=True):
        cut = row[:asked] / np.linalg.norm(row[:asked])
        assert np.allclose(cut, emulator_vector(address, text, dimensions=asked), atol=2e-4), "wrong, and not noticed"
    return "ok"


NAMED = [
    pytest.param(provider, fault, id=f"{provider}-{name}")
    for name, fault in FAULTS.items()
    for provider in fault.providers
]


@pytest.mark.parametrize(("provider", "fault"), NAMED)
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_named_faults_expect_what_a_strict_client_sees(ask, emulator, provider, fault):
    emulator.faults.append(fault)
    fields = {WIDTH_FIELD[provider]: 256, "encoding_format": "base64"}
    try:
        seen = outcome(
            ask(provider, timeout=0.2 if fault.delay or fault.stall or fault.dribble else 10, **fields), provider, 256
        )
    except httpx2.TransportError:
        seen = "retryable"
    assert seen == fault.expects
    assert len(emulator.faults) == 0
    # It was for one request: the next is answered, with vectors.
    assert outcome(ask(provider, **fields), provider, 256) == "ok"


NUMERIC = sorted(name for name, fault in FAULTS.items() if fault.expects == "bad_row")


@pytest.mark.parametrize("name", [*NUMERIC, "ragged", "wrong_width", "zero_vectors"])
def test_wrong_numbers_also_as_lists(ask, emulator, name):
    emulator.faults.append(FAULTS[name])
    spoiled = ask("openai", dimensions=4).content
    clean = ask("openai", dimensions=4).content
    assert spoiled != clean
    assert isinstance(json.loads(spoiled)["data"][1]["embedding"], list)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("closed_before_answer", httpx2.RemoteProtocolError),
        ("reset_before_answer", httpx2.ReadError),
        ("closed_after_headers", httpx2.RemoteProtocolError),
        ("truncated_body", httpx2.RemoteProtocolError),
        ("reset_in_body", httpx2.ReadError),
        ("stalled_body", httpx2.ReadTimeout),
        ("slow_headers", httpx2.ReadTimeout),
    ],
)
def test_how_connections_break(ask, emulator, name, error):
    emulator.faults.append(FAULTS[name])
    with pytest.raises(error):
        ask("openai", timeout=0.2 if error is httpx2.ReadTimeout else 10)


def test_a_slow_body_arrives_in_the_end(ask, emulator):
    emulator.faults.append(Fault(dribble=0.01, body={"a": "b" * 20}))
    began = time.perf_counter()
    assert ask("openai").json() == {"a": "b" * 20}
    assert time.perf_counter() - began > 0.25


@pytest.mark.parametrize(("name", "order"), [("order_reversed", [2, 1, 0]), ("order_random", [1, 0, 2])])
def test_another_order_keeps_each_index_with_its_vector(ask, emulator, name, order):
    straight = ask("voyage").json()["data"]
    emulator.faults.append(FAULTS[name])
    assert ask("voyage").json()["data"] == [straight[index] for index in order]


def test_retry_after_of_named_faults(ask, emulator):
    for name, header in (("openai_rate_limited", "1"), ("openai_rate_limited_121", "121")):
        emulator.faults.append(FAULTS[name])
        assert ask("openai").headers["retry-after"] == header


def test_faults_are_taken_in_order_as_often_as_they_say(ask, emulator):
    emulator.faults.extend([Fault(status=500, times=2), Fault(status=503, body={"detail": "later"})])
    emulator.faults.append(Fault(headers={"x-extra": "1"}))
    answers = [ask("voyage") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [500, 500, 503, 200, 200]
    assert answers[2].json() == {"detail": "later"}
    assert [answer.headers.get("x-extra") for answer in answers] == [None, None, None, "1", None]


def test_a_fault_waits_for_the_request_it_is_meant_for(ask, emulator):
    emulator.faults.append(Fault(status=418, when=lambda request: request.provider == "voyage"))
    emulator.faults.append(Fault(status=502, when=lambda request: "b" in request.body["input"]))
    assert ask("openai").status_code == 200
    assert ask("openai", input=["a", "b"]).status_code == 502
    assert ask("voyage", input=["b"]).status_code == 418
    assert ask("voyage", input=["b"]).status_code == 200


def test_a_fault_that_edits_leaves_refusals_alone(ask, emulator):
    emulator.faults.append(Fault(edit=lambda payload: {"was": payload["model"]}, times=2))
    assert ask("openai", key="wrong").status_code == 401
    assert ask("openai").json() == {"was": "text-embedding-3-small"}


def test_dropped_headers(ask, emulator):
    emulator.faults.append(replace(FAULTS["no_headers"], drop_headers=("*",)))
    assert set(ask("openai").headers) == {"content-length"}


def test_clear(ask, emulator):
    emulator.faults.append(Fault(status=500, times=9))
    ask("openai")
    emulator.clear()
    assert (emulator.requests, len(emulator.faults)) == ([], 0)
    assert ask("openai").status_code == 200
