"""Whatever the body, cutting the vectors out of it gives what parsing all of it gives; at worst it is given up."""

import base64
import json
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mrlclient import ResponseContractError
from mrlclient.providers import _numbers
from mrlclient.providers._json import UnusableError, parse
from mrlclient.providers._scan import scan
from mrlclient.providers._wire import _decode, decode_embeddings


@pytest.fixture(params=["wheels", "no wheels"])
def wheels(request, monkeypatch):
    """Whether the optional packages are there."""
    if request.param == "no wheels":
        monkeypatch.setattr(_numbers, "_decode_base64", _numbers._decode_strictly)
        monkeypatch.setattr(_numbers, "_simdjson", lambda: None)
    return request.param == "wheels"


def seen(decode):
    try:
        answer = decode()
    except ResponseContractError as error:
        assert error.__context__ is None
        return str(error).split("cannot be used: ")[1]
    except UnusableError as error:
        return str(error)
    return answer.vectors.shape, answer.vectors.tobytes(), answer.tokens, answer.notes, answer.model


def check(body, count):
    outcome = seen(lambda: decode_embeddings(body, count, "acme"))
    assert outcome == seen(lambda: _decode(parse(body), count, "acme", None)), body
    return outcome


def packed(row):
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()


def tight(value):
    return json.dumps(value, separators=(",", ":"))


STYLES = (tight, json.dumps, lambda value: json.dumps(value, indent=1), lambda value: json.dumps(value, indent="\t"))

#: What may confuse somebody who looks for vectors in text.
NASTY = (
    '"embedding":"AACAPw=="',
    '{"embedding":"AACAPw=="}',
    '\\","embedding":"AACAPw==","x":"',
    '"embedding":[1.0]',
    "embedding",
    "NaN",
    "-Infinity",
    "a:b",
    "\\",
    '"',
    "é\u2028\ud83d\ude00",
)
numbers = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.integers(-9, 9),
)
values = st.recursive(
    st.one_of(st.sampled_from(NASTY), st.integers(-9, 9), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(("embedding", "index", "data", "a:b", *NASTY[:2])), inner, max_size=3),
    ),
    max_leaves=4,
)


@st.composite
def answers(draw):
    """An answer's text, more or less as a server would write it, and the number of its vectors."""
    count, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    kinds = draw(st.sampled_from(("base64", "lists", "both")))
    data = []
    for index in draw(st.permutations(range(count))):
        row = draw(st.lists(numbers, min_size=width, max_size=width))
        if kinds == "base64" or (kinds == "both" and draw(st.booleans())):
            row = packed(np.array(row, np.float64).clip(-1e38, 1e38))
        item = [("object", "embedding"), ("index", index), ("embedding", row)]
        if draw(st.booleans()):
            item.append((draw(st.sampled_from(("embeddings", "note", "data", *NASTY))), draw(values)))
        data.append(dict(draw(st.permutations(item))))
    answer = [("object", "list"), ("data", data), ("model", draw(st.sampled_from(("m", *NASTY))))]
    answer.append(("usage", draw(st.one_of(st.just({"total_tokens": 3}), values))))
    if draw(st.booleans()):
        answer.append((draw(st.sampled_from(("embedding", "error", "a:b"))), draw(values)))
    text = draw(st.sampled_from(STYLES))(dict(draw(st.permutations(answer))))
    return text.encode(), count


#: What is put into a body, or in the place of some of it.
SHARDS = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"=", b"0", b"-", b"A", b"/", b"\\/", b"\0", b"\x7f"),
    *(b"NaN", b"Infinity", b"null", b"true", b"1e999", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\\u0065", b'"embedding"'),
    *(b'"embedding":"', b'"embedding": [', b'"embedding":NaN,', b'"embedding":"AACAPw==",', b'"index":0,', b'"a":1,'),
    *(b'{"embedding":"AACAPw=="},', b'"x":"\\"embedding\\":\\"AACAPw==\\"",', b'{"index":0,"embedding":"AACAPw=="}'),
)


def spoiled(body, chance):
    for _ in range(chance.randint(1, 3)):
        at = chance.choice([chance.randrange(len(body) + 1), body.find(chance.choice((b'"', b":", b"e", b"[", b",")))])
        taken = chance.choice((0, 0, 1, 1, 2, 9))
        body = body[:at] + chance.choice((b"", *SHARDS)) + body[at + taken :] if at >= 0 else body
    return body


@given(answers())
def test_any_answer(answer):
    check(*answer)


@settings(max_examples=300)
@given(answers(), st.integers(0, 2**32))
def test_any_spoiled_answer(answer, seed):
    body, count = answer
    chance = random.Random(seed)
    for _ in range(5):
        check(spoiled(body, chance), count)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(answers(), st.integers(0, 2**32))
def test_many_spoiled_answers(answer, seed):
    test_any_spoiled_answer.hypothesis.inner_test(answer, seed)


GOOD = tight({"object": "list", "data": [{"index": i, "embedding": packed([1.0, i])} for i in (0, 1)]}).encode()


@pytest.mark.parametrize("place", range(len(GOOD) + 1))
def test_every_shard_at_every_place(place):
    for shard in SHARDS:
        check(GOOD[:place] + shard + GOOD[place:], 2)
        check(GOOD[:place] + shard + GOOD[place + len(shard) :], 2)


ONE = '{"index":0,"embedding":"AACAPw=="}'
FORGED = {
    "in a string": r'{"model":"\"embedding\":\"AACAPw==\"","data":[%s]}' % ONE,
    "a string that ends in the cut": r'{"model":"\\"embedding":"AACAPw==","data":[%s]}' % ONE,
    "a name that is the marker": r'{"\"embedding":"AACAPw==","data":[%s]}' % ONE,
    "spelled otherwise": '{"data":[{"index":0,"\\u0065mbedding":"AACAPw=="}]}',
    "escapes in base64": '{"data":[{"index":0,"embedding":"AACA\\u0050w=="}]}',
    "a slash that is escaped": '{"data":[{"index":0,"embedding":"\\/\\/\\/\\/AACAPw=="}]}',
    "elsewhere in the answer": '{"embedding":"AACAPw==","data":[%s]}' % ONE,
    "as the model": '{"model":{"embedding":"AACAPw=="},"data":[%s]}' % ONE,
    "deeper in the item": '{"data":[{"index":0,"embedding":{"embedding":"AACAPw=="}}]}',
    "in a list": '{"data":[{"index":0,"embedding":["embedding","AACAPw=="]}]}',
    "twice in an item": '{"data":[{"index":0,"embedding":"AACAPw==","embedding":"AACAQA=="}]}',
    "twice, once spelled otherwise": '{"data":[{"index":0,"\\u0065mbedding":"AACAPw==","embedding":"AACAQA=="}]}',
    "another name twice": '{"data":[{"index":0,"embedding":"AACAPw=="}],"a":1,"a":2}',
    "another name twice, colons apart": '{"data":[{"index":0,"embedding":"AACAPw=="}],"a":":","a" :2}',
    "names twice within": '{"data":[{"index":0,"embedding":"AACAPw=="}],"a":{"b":1,"b":2}}',
    "data twice": '{"data":[%s],"data":[{"index":0,"embedding":"AACAQA=="}]}' % ONE,
    "the placeholder": '{"data":[{"index":0,"embedding":NaN}]}',
    "the placeholder beside": '{"data":[%s],"model":NaN}' % ONE,
    "the placeholder for another": '{"data":[{"index":0,"embedding":NaN}],"model":{"embedding":"AACAPw=="}}',
    "the placeholder in a name": '{"model":"NaN","data":[%s]}' % ONE,
    "another constant": '{"data":[%s],"model":-Infinity}' % ONE,
    "no end": '{"data":[{"index":0,"embedding":"AACAPw==',
    "no end of a list": '{"data":[{"index":0,"embedding":[1.0,',
    "no value": '{"data":[{"index":0,"embedding":',
    "nothing between": '{"data":[{"index":0,"embedding":""}]}',
    "no comma after": '{"data":[{"embedding":"AACAPw==" "index":0}]}',
    "two values": '{"data":[{"embedding":"AACAPw==""AACAPw==","index":0}]}',
    "a list in a list": '{"data":[{"index":0,"embedding":[[1.0]]}]}',
    "a list of nothing": '{"data":[{"index":0,"embedding":[ ]}]}',
    "a bracket in a string": '{"data":[{"index":0,"embedding":["]"]}]}',
    "after the answer": '{"data":[%s]} "embedding":"AACAPw=="' % ONE,
    "a mark before": '\ufeff{"data":[%s]}' % ONE,
    "an answer that is a list": "[%s]" % ONE,
    "an answer that is the item": ONE,
    "items that are none": '{"data":["embedding",{"embedding":"AACAPw=="}]}',
    "data that is an object": '{"data":%s}' % ONE,
    "deep": '{"data":[%s],"a":%s}' % (ONE, "[" * 100_000),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged(name, wheels):
    check(FORGED[name].encode(), 1)


@pytest.mark.parametrize(
    "text",
    [
        *("1", "-0", "-0.0", "0.1", "1E5", "1e+05", "1e-400", "3.4028236e38", "1e300", "1e999", "-1e999", "1" * 5000),
        *("9223372036854775808", "18446744073709551615", "18446744073709551616", "9007199254740993", "16777217"),
        *("01", "1.", ".5", "+1", "--1", "1e", "0x1", "1_0", "NaN", "Infinity", "null", "true", '"1"', "{}", "[]", "1,"),
        *("1 ", "\t1\r\n", "1\f", "1\0", "1;2", "1 2", "0.30000000000000004441", "2.2250738585072011e-308", "1e23"),
        *("", " ", ",", "١", "7.0064923216240853546186479164495e-46", "1.17549428e-38", str(10**400)),
    ],
)
def test_numbers_are_read_as_json_reads_them(text, wheels):
    check(f'{{"data":[{{"index":0,"embedding":[{text}]}}]}}'.encode(), 1)
    check(f'{{"data":[{{"index":0,"embedding":[0.5,{text},-2]}}]}}'.encode(), 1)


@given(st.lists(st.text("AQgw/+=-_ \n\0é", max_size=3), max_size=3).map("".join))
@example("AAAA=")
@example("AAAA====")
@example("AAAAAA=")
@example("AAAAA===")
@example("AAAAAB==")
@example("====")
def test_base64_is_taken_as_binascii_takes_it(text):
    for before in ("", "AACAPw==", "AACAPwAA"):
        given_text = before + text
        check(f'{{"data":[{{"index":0,"embedding":"{given_text}"}}]}}'.encode(), 1)
        for encoded in (given_text, memoryview(given_text.encode())):
            assert read(_numbers._decode_base64, encoded) == read(_numbers._decode_strictly, encoded)


def read(decode, text):
    try:
        return decode(text)
    except ValueError:
        return None


@pytest.mark.parametrize("write", STYLES)
@pytest.mark.parametrize("lists", [False, True])
def test_what_servers_write_is_cut(write, lists, wheels):
    """Or else all the above would say nothing."""
    rows = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    data = [{"object": "embedding", "index": i, "embedding": packed(rows[i])} for i in (3, 1, 0, 2, 4)]
    if lists:
        data[2]["embedding"] = rows[0].tolist()
    body = write({"object": "list", "data": data, "model": "owner/m:latest", "usage": {"total_tokens": 7}}).encode()
    assert (scan(body) is None) == (lists and not wheels)
    check(body, 5)
    np.testing.assert_array_equal(decode_embeddings(body, 5, "acme").vectors, rows)


def test_big_endian_machines(monkeypatch):
    """The bytes are read as little-endian and written as the machine has them."""
    before = decode_embeddings(GOOD, 2, "acme").vectors
    monkeypatch.setattr(_numbers, "_SWAPPED", True)
    np.testing.assert_array_equal(decode_embeddings(GOOD, 2, "acme").vectors, before)


@pytest.mark.parametrize("parsed", [False, True])
def test_vectors_are_written_where_they_are_wanted(parsed, wheels):
    rows = np.zeros((4, 2), np.float32)
    answer = decode_embeddings(json.loads(GOOD) if parsed else GOOD, 2, "acme", rows[1:3])
    assert np.shares_memory(answer.vectors, rows)
    np.testing.assert_array_equal(rows, [[0, 0], [1, 0], [1, 1], [0, 0]])


def test_vectors_of_another_width_are_not_written():
    rows = np.zeros((2, 3), np.float32)
    answer = decode_embeddings(GOOD, 2, "acme", rows)
    np.testing.assert_array_equal(answer.vectors, [[1, 0], [1, 1]])
    assert not rows.any()
