"""N6 and N7: answers of 200 that are none. Asked for three times at most, refused whole, and nothing is kept."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mrlclient import DimensionsMismatchError, ResponseContractError
from mrlclient.testing.emulator import FAULTS, Fault
from tests.faults.matrix import ADDRESSES, TEXTS, Case, check, named, of_emulator, run

FUZZED = 200

#: Of the emulator's named faults; the others are of other rows.
_NO_ANSWER = (
    "truncated_json", "empty_body", "html_body", "error_object", "empty_object", "list_for_object", "byte_order_mark",
    "duplicate_keys", "deep_nesting", "data_missing", "data_null", "nan_literals",
)  # fmt: skip
_WRONG_ROWS = (
    "count_minus_one", "count_plus_one", "count_zero", "index_duplicate", "index_missing", "index_negative",
    "index_too_large", "index_string", "index_float", "index_bool", "ragged", "wrong_width", "embedding_null",
    "embedding_missing", "embedding_strings", "embedding_nested", "base64_bad", "base64_bad_length", "float16", "int8",
    "big_endian", "zero_vectors",
)  # fmt: skip


def twice(key: bytes, value: bytes) -> Fault:
    """A key that stands twice: which one is meant, nobody knows. The right one comes last."""
    return Fault(rewrite=lambda body: body.replace(b'"%s":' % key, b'"%s":%s,"%s":' % (key, value, key), 1))


_MORE = {
    "duplicate key before the data": twice(b"data", b"[]"),
    "duplicate key in a row": twice(b"index", b"2"),
    "duplicate embedding in a row": twice(b"embedding", b'"AACAPw=="'),
    "null": Fault(body=b"null"),
    "a number": Fault(body=b"200"),
    "a string": Fault(body=b'"ok"'),
    "two answers": Fault(rewrite=lambda body: body + body),
    "UTF-16": Fault(rewrite=lambda body: body.decode().encode("utf-16")),
    "no UTF-8": Fault(rewrite=lambda body: body.replace(b'"list"', b'"\xff\xfe"')),
    "single quotes": Fault(rewrite=lambda body: body.replace(b'"', b"'")),
    "a trailing comma": Fault(rewrite=lambda body: body[:-1] + b",}"),
    "an event stream": Fault(rewrite=lambda body: b"data: " + body + b"\n\ndata: [DONE]\n\n"),
    "a number of a million digits": Fault(body=b'{"data": ' + b"1" * 100_000 + b"}"),
    "deep objects": Fault(body=b'{"data":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}"),
    "an error beside the data": Fault(edit=lambda payload: payload | {"data": [], "error": {"message": "canary"}}),
    "data that is an object": Fault(edit=lambda payload: payload | {"data": dict(enumerate(payload["data"]))}),
    "rows in rows": Fault(edit=lambda payload: payload | {"data": [payload["data"]]}),
    "202": Fault(status=202, body={"status": "queued"}),
    "204": Fault(status=204),
    "206 with a part": Fault(status=206, body=b'{"object":"list","data":['),
}


def rows(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    """Changes fields of every row."""
    return Fault(edit=lambda payload: payload | {"data": [row | change(row) for row in payload["data"]]})


def _stored_as(embedding: str, dtype: str) -> str:
    return base64.b64encode(np.frombuffer(base64.b64decode(embedding), "<f4").astype(dtype).tobytes()).decode()


def _padded(embedding: str, width: int) -> str:
    row = np.frombuffer(base64.b64decode(embedding), "<f4")
    return base64.b64encode(np.pad(row, (0, width - len(row))).tobytes()).decode()


_MORE_ROWS = {
    "every row the first": rows(lambda row: {"index": 0}),
    "index beyond all bounds": rows(lambda row: {"index": row["index"] + 2**70}),
    "index null": rows(lambda row: {"index": None}),
    "base64 of another alphabet": rows(lambda row: {"embedding": "-_-_" + row["embedding"][4:]}),
    "base64 with a line break": rows(lambda row: {"embedding": row["embedding"][:8] + "\n" + row["embedding"][8:]}),
    "float64": rows(lambda row: {"embedding": _stored_as(row["embedding"], "<f8")}),
    "no numbers": rows(lambda row: {"embedding": []}),
    "numbers beyond float32": rows(lambda row: {"embedding": [1e300] * 512}),
    "true and false": rows(lambda row: {"embedding": [True] * 512}),
    "padded with zeros": rows(lambda row: {"embedding": _padded(row["embedding"], 600)}),
}


def always(row: str, name: str, fault: Fault, provider: str = "openai") -> Case:
    widths = ("wrong_width", "float16", "int8", "float64", "padded with zeros")
    return Case(
        row=row,
        name=f"{name}, {provider}",
        inject=of_emulator(dataclasses.replace(fault, times=99), provider=provider),
        expects=DimensionsMismatchError if name in widths else ResponseContractError,
        attempts=3,
    )


def once(row: str, name: str, fault: Fault, attempts: int = 2) -> Case:
    return Case(row=row, name=f"{name}, once", inject=of_emulator(fault), expects=None, attempts=attempts)


CASES = [
    *(always("N6", name, FAULTS[name], provider) for name in _NO_ANSWER for provider in ADDRESSES),
    *(always("N6", name, fault) for name, fault in _MORE.items()),
    *(once("N6", name, fault) for name, fault in _MORE.items()),
    *(always("N7", name, FAULTS[name], provider) for name in _WRONG_ROWS for provider in ADDRESSES),
    *(always("N7", name, fault) for name, fault in _MORE_ROWS.items()),
    *(once("N7", name, FAULTS[name]) for name in _WRONG_ROWS),
    *(once("N7", name, FAULTS[name], attempts=1) for name in ("order_reversed", "order_random")),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)


#: No 0 or 1: two rows could take each other's index, and a number of a vector another value, and nobody could tell.
_JUNK: tuple[Any, ...] = (None, True, -1, 3, 2**70, 0.5, 1e308, "", "0", "AAAA", [], [0.0], {}, {"a": 1})


def spoiled(payload: Any, chance: random.Random) -> Any:
    """The payload with one to three changes of its structure."""
    payload = json.loads(json.dumps(payload))
    for _ in range(chance.randint(1, 3)):
        places = list(_places(payload))
        if not places:
            break
        parent, key = chance.choice(places)
        change = chance.choice(("drop", "junk", "double", "cut", "junk"))
        if isinstance(parent[key], float):
            # A vector that still holds as many numbers would only be another vector.
            parent[key] = chance.choice((None, True, "0", [0.5], {}))
            continue
        match change:
            case "drop":
                del parent[key]
            case "double" if isinstance(parent, list):
                parent.insert(chance.randrange(len(parent) + 1), json.loads(json.dumps(parent[key])))
            case "cut" if isinstance(parent[key], str | list):
                parent[key] = parent[key][: chance.randrange(len(parent[key]) + 1)]
            case _:
                parent[key] = chance.choice(_JUNK)
    return payload


def _places(value: Any) -> Any:
    """Each member of an object or a list, however deep; of a list of numbers only the first few."""
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 8)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def fuzzed(seed: int) -> Fault:
    chance = random.Random(seed)
    fields = ("encoding_format",) if chance.random() < 0.3 else ()
    return Fault(edit=lambda payload: spoiled(payload, chance), ignore_fields=fields, times=1)


def harmless_or_refused(seed: int, face: str, emulator: Any) -> None:
    """A changed answer gives the right vectors or an error, and what is kept is right."""
    # No second attempt: that would be a good answer.
    case = Case(
        row="N7",
        name=f"fuzzed {seed}",
        inject=of_emulator(fuzzed(seed)),
        expects=ResponseContractError,
        attempts=1,
        max_attempts=1,
    )
    outcome = run(case, face, emulator)
    assert outcome.kind in ("right", "typed"), outcome
    if outcome.kind == "right":
        assert outcome.stored == len(TEXTS), outcome
        return
    assert isinstance(outcome.error, ResponseContractError)
    # Good rows beside a bad one are kept; of an answer that is refused as a whole, nothing is.
    partial = outcome.error.partial
    assert outcome.stored == (0 if partial is None else len(TEXTS) - len(partial.errors)), outcome


@pytest.mark.parametrize("start", range(0, FUZZED, 50))
def test_fuzzed(start, face, emulator):
    for seed in range(start, start + 50):
        harmless_or_refused(seed, face, emulator)


@pytest.mark.soak
def test_fuzzed_1500_times(face, emulator):
    for seed in range(FUZZED, FUZZED + 1500):
        harmless_or_refused(seed, face, emulator)
