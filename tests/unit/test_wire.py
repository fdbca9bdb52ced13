import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrlclient import ResponseContractError
from mrlclient.providers._wire import decode_embeddings


def packed(row, dtype="<f4"):
    return base64.b64encode(np.asarray(row, dtype=dtype).tobytes()).decode()


def body(*items, **extra):
    data = [{"object": "embedding", "index": i, "embedding": e} for i, e in items]
    return {"object": "list", "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}} | extra


ROWS = [[1.0, 2.0], [3.0, -4.5]]


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=st.floats(width=32)), st.randoms()
)
def test_base64_and_lists_in_any_order(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    finite = bool(np.isfinite(rows).all())
    for encode in (packed, *([np.ndarray.tolist] if finite else [])):
        answer = decode_embeddings(json.dumps(body(*((i, encode(rows[i])) for i in order))).encode(), len(rows), "acme")
        np.testing.assert_array_equal(answer.vectors, rows)
        assert answer.tokens == 3
        assert bool(answer.notes) == (encode is not packed)


@pytest.mark.parametrize(("dtype", "stored_as"), [("int8", np.int8), ("uint8", np.uint8), ("binary", np.int8)])
@given(data=st.data())
def test_codes_in_base64_and_lists(dtype, stored_as, data):
    rows = data.draw(hnp.arrays(stored_as, st.tuples(st.integers(1, 5), st.integers(1, 9))))
    for encode in (lambda row: packed(row, stored_as), np.ndarray.tolist, lambda row: row.astype(float).tolist()):
        for out in (None, np.empty_like(rows)):
            answer = json.dumps(body(*enumerate(map(encode, rows)))).encode()
            decoded = decode_embeddings(answer, len(rows), "acme", out, dtype).vectors
            assert decoded.dtype == stored_as
            assert out is None or decoded is out
            np.testing.assert_array_equal(decoded, rows)


@pytest.mark.parametrize("parsed", [False, True])
@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [
        ("int8", [1, 128]),
        ("int8", [1, -129]),
        ("uint8", [-1, 1]),
        ("uint8", [256]),
        ("int8", [0.5]),
        ("ubinary", [1e30]),
        ("binary", [128]),
        ("int8", ["1"]),
        ("int8", [True]),
        ("int8", []),
        ("int8", ""),
        ("int8", "!"),
    ],
)
def test_what_is_no_code_is_refused(dtype, numbers, parsed):
    answer = body((0, numbers))
    with pytest.raises(ResponseContractError):
        decode_embeddings(answer if parsed else json.dumps(answer).encode(), 1, "acme", None, dtype)


def test_a_parsed_body_is_taken_as_it_is():
    np.testing.assert_array_equal(decode_embeddings(body((0, packed(ROWS[0]))), 1, "acme").vectors, ROWS[:1])


def test_lists_are_told_of_by_name():
    (note,) = decode_embeddings(body((0, ROWS[0]), (1, packed(ROWS[1]))), 2, "acme").notes
    assert "base64" in note


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"total_tokens": -1}, {"total_tokens": True}, {"total_tokens": "3"}, 3, {"total_tokens": 10**400}],
)
def test_tokens_are_unknown_where_the_server_does_not_say(usage):
    assert decode_embeddings(body((0, packed(ROWS[0])), usage=usage), 1, "acme").tokens is None


GOOD = packed(ROWS[0])
UNUSABLE = {
    "empty": b"",
    "html": b"<html>canary</html>",
    "truncated": json.dumps(body((0, GOOD), (1, GOOD))).encode()[:-9],
    "not utf-8": b'{"data": "\xff"}',
    "NaN": b'{"data": [{"index": 0, "embedding": [NaN]}, {"index": 1, "embedding": [1]}]}',
    "deep": b"[" * 100_000,
    "null": b"null",
    "a list": b"[]",
    "an error": {"error": {"message": "canary"}},
    "no data": {},
    "data is null": {"data": None},
    "data of strings": {"data": [GOOD, GOOD]},
    "one too few": body((0, GOOD)),
    "one too many": body((0, GOOD), (1, GOOD), (2, GOOD)),
    "none": body(),
    "index twice": body((0, GOOD), (0, GOOD)),
    "index beyond": body((0, GOOD), (2, GOOD)),
    "index negative": body((0, GOOD), (-1, GOOD)),
    "index a string": body((0, GOOD), ("1", GOOD)),
    "index a bool": body((0, GOOD), (True, GOOD)),
    "index a float": body((0, GOOD), (1.0, GOOD)),
    "index missing": {"data": [{"embedding": GOOD}, {"embedding": GOOD}]},
    "embedding missing": {"data": [{"index": 0}, {"index": 1}]},
    "embedding null": body((0, GOOD), (1, None)),
    "embedding empty": body((0, GOOD), (1, "")),
    "embedding an object": body((0, GOOD), (1, {"a": 1})),
    "list empty": body((0, []), (1, [])),
    "list of strings": body((0, GOOD), (1, ["1.0", "2.0"])),
    "list with null": body((0, GOOD), (1, [1.0, None])),
    "list with a bool": body((0, GOOD), (1, [1.0, True])),
    "list nested": body((0, GOOD), (1, [[1.0, 2.0]])),
    "list with a huge integer": body((0, GOOD), (1, [10**400, 1])),
    "ragged": body((0, GOOD), (1, packed([1, 2, 3]))),
    "float16": body((0, GOOD), (1, packed(ROWS[1], "<f2"))),
    "not base64": body((0, GOOD), (1, "canary!!")),
    "base64 without padding": body((0, GOOD), (1, GOOD.rstrip("="))),
    "not whole numbers of four bytes": body((0, GOOD), (1, base64.b64encode(b"12345").decode())),
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("as_bytes", [True, False])
def test_what_cannot_be_used(name, as_bytes):
    answer = UNUSABLE[name]
    if as_bytes != isinstance(answer, bytes):
        answer = json.dumps(answer).encode() if as_bytes else json.loads(json.dumps({"data": None}))
    with pytest.raises(ResponseContractError) as caught:
        decode_embeddings(answer, 2, "acme")
    error = caught.value
    assert error.retryable
    assert "canary" not in str(error)
    assert error.__context__ is None


def test_a_name_that_stands_twice():
    """Whichever value is meant, the other one is wrong; through JSON alone the last would win."""
    item = b'{"index": 0, "index": 1, "embedding": "%s"}' % GOOD.encode()
    with pytest.raises(ResponseContractError, match="twice"):
        decode_embeddings(b'{"data": [%s, {"index": 0, "embedding": "%s"}]}' % (item, GOOD.encode()), 2, "acme")
