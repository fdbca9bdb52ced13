"""Whatever the body, cutting the vectors out of it gives what parsing all of it gives; at worst it is given up."""

import base64
import json
import random
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mrlclient import ResponseContractError
from mrlclient.providers import _numbers
from mrlclient.providers._json import UnusableError, parse
from mrlclient.providers._scan import scan, scan_in_order
from mrlclient.providers._wire import _decode, decode_embeddings


@pytest.fixture(params=["wheels", "no wheels"])
def wheels(request, monkeypatch):
    """Whether the optional packages are there."""
    if request.param == "no wheels":
        for name in ("pybase64", "simdjson"):
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setattr(_numbers, "_decode_base64", _numbers._base64_decoder())
        monkeypatch.setattr(_numbers, "_simdjson", _numbers._simdjson.__wrapped__)
    return request.param == "wheels"


def seen(decode):
    try:
        answer = decode()
    except ResponseContractError as error:
        return str(error).split("cannot be used: ")[1] if error.__context__ is None else "a foreign error crossed"
    except UnusableError as error:
        return str(error)
    return answer.vectors.shape, answer.vectors.tobytes(), answer.tokens, answer.notes, answer.model


def check(body, count):
    outcome = seen(lambda: decode_embeddings(body, count, "acme"))
    assert outcome == seen(lambda: decode_embeddings(bytearray(body), count, "acme"))
    assert outcome == seen(lambda: _decode(parse(body), count, "acme", None, "float32")), body
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
    count, width = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    kinds = draw(st.sampled_from(("base64", "lists", "both")))
    members = draw(st.permutations(range(3)))
    data = []
    for index in draw(st.one_of(st.just(range(count)), st.permutations(range(count)))):
        row = draw(st.lists(numbers, min_size=width, max_size=width))
        if kinds == "base64" or (kinds == "both" and draw(st.booleans())):
            row = packed(np.array(row, np.float64).clip(-1e38, 1e38))
        item = [("object", "embedding"), ("index", index), ("embedding", row)]
        item = [item[member] for member in members]
        if draw(st.integers(0, 3)) == 0:
            item.append((draw(st.sampled_from(("embeddings", "note", "data", *NASTY))), draw(values)))
            item = draw(st.permutations(item))
        data.append(dict(item))
    answer = [("object", "list"), ("data", data), ("model", draw(st.sampled_from(("m", *NASTY))))]
    answer.append(("usage", draw(st.one_of(st.just({"total_tokens": 3}), values))))
    if draw(st.booleans()):
        answer.append((draw(st.sampled_from(("embedding", "error", "a:b"))), draw(values)))
    text = draw(st.sampled_from(STYLES))(dict(draw(st.permutations(answer))))
    return text.encode(), count


#: What is put into a body, or in the place of some of it.
SHARDS = (
    *(
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b" ",
        b"\n",
        b"=",
        b"0",
        b"-",
        b"A",
        b"/",
        b"\\/",
        b"\0",
        b"\x7f",
    ),
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
@pytest.mark.timeout(600)
@settings(max_examples=3_000, deadline=None)
@given(answers(), st.integers(0, 2**32))
def test_many_spoiled_answers(answer, seed):
    test_any_spoiled_answer.hypothesis.inner_test(answer, seed)


GOOD = tight({"object": "list", "data": [{"index": i, "embedding": packed([1.0, i])} for i in (0, 1)]}).encode()


@pytest.mark.parametrize("place", range(len(GOOD) + 1))
def test_every_shard_at_every_place(place):
    for shard in SHARDS:
        check(GOOD[:place] + shard + GOOD[place:], 2)
        check(GOOD[:place] + shard + GOOD[place + len(shard) :], 2)


def items(*written):
    return b'{"data":[%b],"model":"m"}' % ",".join(written).encode()


def like(template, count):
    """Items in order, written like this one."""
    return items(*(template.replace("@", str(i)).replace("#", packed([i + 1.0])) for i in range(count)))


#: As OpenAI and Voyage write it, and more that is the same text again and again.
REGULAR = (
    '{"object":"embedding","index":@,"embedding":"#"}',
    '{"object":"embedding","embedding":"#","index":@}',
    '{"embedding": "#", "index": @, "object": "embedding", "note": "%s % \\" %%"}',
    '{"note":"%d%%%","index":@,"embedding":"#"}',
    '{\n"index" : @,\n"embedding" : "#"\n}',
    '{"index":@,"embedding":"#","é":{"embedding":null}}',
)
#: Much the same, but the number is something else than the index, or not that alone.
IRREGULAR = (
    '{"note":"@","embedding":"#"}',
    '{"note":"@","embedding":"#","index":7}',
    '{"note":@,"embedding":"#","index":@}',
    '{"note":7,"index":@,"embedding":"#"}',
    '{"index":"@","embedding":"#"}',
    '{"index":-@,"embedding":"#"}',
    '{"index":@.0,"embedding":"#"}',
    '{"index":@e0,"embedding":"#"}',
    '{"index":0@,"embedding":"#"}',
    '{"index":true,"note":@,"embedding":"#"}',
    '{"index":@,"embedding":"#","index":@}',
    '{"index":@,"embedding":"#","embedding":"#"}',
    '{"index":@,"\\u0069ndex":@,"embedding":"#"}',
    '{"\\u0069ndex":@,"embedding":"#"}',
    '{"index":@,"embedding":"#","note":NaN}',
    '{"index":@,"x":{"embedding":"#"}}',
    '{"index":@,"embedding":["embedding","#"]}',
    '{"index":@,"embedding":"#"}]',
)


@pytest.mark.parametrize("template", REGULAR)
def test_vectors_in_order_are_not_parsed_one_by_one(template):
    for count in (4, 5, 10, 11, 12, 102):
        body = like(template, count)
        answer, embeddings = scan_in_order(body, count)
        assert (len(answer["data"]), len(embeddings)) == (3, count)
        shape, rows, *_ = check(body, count)
        assert (shape, rows) == ((count, 1), np.arange(1, count + 1, dtype=np.float32).tobytes())
        for wrong in (count - 1, count + 1):
            check(body, wrong)


@pytest.mark.parametrize("template", [*REGULAR, *IRREGULAR])
@pytest.mark.parametrize("odd", [*REGULAR[:2], *IRREGULAR[:9]])
def test_items_that_are_not_like_the_others(template, odd):
    written = [template.replace("@", str(i)).replace("#", packed([i + 1.0])) for i in range(6)]
    check(items(*written), 6)
    for i in range(6):
        for index in (i, 0, 5, 6):
            other = odd.replace("@", str(index)).replace("#", packed([i + 9.0]))
            check(items(*written[:i], other, *written[i + 1 :]), 6)
        check(items(*written[:i], *written[i + 1 :], written[i]), 6)


def test_an_index_on_the_other_side_of_its_vector():
    """The number between two vectors is no index there, though the parsed items have theirs."""
    first, last = '{"index":0,"embedding":"#","note":"1"}', '{"embedding":"#","index":1}'
    for middle in ('{"embedding":"#","note":"@"}', '{"note":"@","embedding":"#"}'):
        for count in (2, 3, 4, 6):
            written = [first, *(middle.replace("@", str(i + 1)) for i in range(1, count - 1)), last]
            check(items(*(item.replace("#", packed([1.0])) for item in written)), count)
            check(items(*(item.replace("#", packed([1.0])) for item in [*written[:-1], last.replace("1", "2")])), count)


def test_a_name_that_stands_twice_in_an_item_that_is_not_parsed():
    written = [f'{{"index":{i},"embedding":"AACAPw==","note":"x"}}' for i in range(6)]
    written[2] = written[2].replace("{", '{"note":"y",')
    written[5] = '{"index":5,"embedding":"AACAPw=="}'
    assert "twice" in check(items(*written), 6)


@pytest.mark.parametrize("template", REGULAR[:3])
def test_shards_among_vectors_in_order(template):
    body, chance = like(template, 12), random.Random(template)
    for place in range(len(body) + 1):
        for shard in chance.sample((*SHARDS, b"", b"1", b"2", b"10", b"%d"), 4):
            check(body[:place] + shard + body[place + chance.choice((0, 1, len(shard))) :], 12)


ONE = '{"index":0,"embedding":"AACAPw=="}'
#: `@` is a good item.
FORGED = {
    "in a string": r'{"model":"\"embedding\":\"AACAPw==\"","data":[@]}',
    "a string that ends in the cut": r'{"model":"\\"embedding":"AACAPw==","data":[@]}',
    "a name that is the marker": r'{"\"embedding":"AACAPw==","data":[@]}',
    "spelled otherwise": '{"data":[{"index":0,"\\u0065mbedding":"AACAPw=="}]}',
    "escapes in base64": '{"data":[{"index":0,"embedding":"AACA\\u0050w=="}]}',
    "a slash that is escaped": '{"data":[{"index":0,"embedding":"\\/\\/\\/\\/AACAPw=="}]}',
    "elsewhere in the answer": '{"embedding":"AACAPw==","data":[@]}',
    "as the model": '{"model":{"embedding":"AACAPw=="},"data":[@]}',
    "deeper in the item": '{"data":[{"index":0,"embedding":{"embedding":"AACAPw=="}}]}',
    "in a list": '{"data":[{"index":0,"embedding":["embedding","AACAPw=="]}]}',
    "twice in an item": '{"data":[{"index":0,"embedding":"AACAPw==","embedding":"AACAQA=="}]}',
    "twice, once spelled otherwise": '{"data":[{"index":0,"\\u0065mbedding":"AACAPw==","embedding":"AACAQA=="}]}',
    "another name twice": '{"data":[{"index":0,"embedding":"AACAPw=="}],"a":1,"a":2}',
    "another name twice, colons apart": '{"data":[{"index":0,"embedding":"AACAPw=="}],"a":":","a" :2}',
    "names twice within": '{"data":[{"index":0,"embedding":"AACAPw=="}],"a":{"b":1,"b":2}}',
    "data twice": '{"data":[@],"data":[{"index":0,"embedding":"AACAQA=="}]}',
    "the placeholder": '{"data":[{"index":0,"embedding":NaN}]}',
    "the placeholder beside": '{"data":[@],"model":NaN}',
    "the placeholder for another": '{"data":[{"index":0,"embedding":NaN}],"model":{"embedding":"AACAPw=="}}',
    "the placeholder in a name": '{"model":"NaN","data":[@]}',
    "another constant": '{"data":[@],"model":-Infinity}',
    "no end": '{"data":[{"index":0,"embedding":"AACAPw==',
    "no end of a list": '{"data":[{"index":0,"embedding":[1.0,',
    "no value": '{"data":[{"index":0,"embedding":',
    "nothing between": '{"data":[{"index":0,"embedding":""}]}',
    "no comma after": '{"data":[{"embedding":"AACAPw==" "index":0}]}',
    "two values": '{"data":[{"embedding":"AACAPw==""AACAPw==","index":0}]}',
    "a list in a list": '{"data":[{"index":0,"embedding":[[1.0]]}]}',
    "a list of nothing": '{"data":[{"index":0,"embedding":[ ]}]}',
    "a bracket in a string": '{"data":[{"index":0,"embedding":["]"]}]}',
    "after the answer": '{"data":[@]} "embedding":"AACAPw=="',
    "a mark before": '\ufeff{"data":[@]}',
    "an answer that is a list": "[@]",
    "an answer that is the item": ONE,
    "items that are none": '{"data":["embedding",{"embedding":"AACAPw=="}]}',
    "data that is an object": '{"data":@}',
    "deep": '{"data":[@],"a":' + "[" * 100_000,
}


@pytest.mark.parametrize("name", FORGED)
def test_forged(name, wheels):
    check(FORGED[name].replace("@", ONE).encode(), 1)


@pytest.mark.parametrize(
    "text",
    [
        *("1", "-0", "-0.0", "0.1", "1E5", "1e+05", "1e-400", "3.4028236e38", "1e300", "1e999", "-1e999", "1" * 5000),
        *("9223372036854775808", "18446744073709551615", "18446744073709551616", "9007199254740993", "16777217"),
        *(
            "01",
            "1.",
            ".5",
            "+1",
            "--1",
            "1e",
            "0x1",
            "1_0",
            "NaN",
            "Infinity",
            "null",
            "true",
            '"1"',
            "{}",
            "[]",
            "1,",
        ),
        *("1 ", "\t1\r\n", "1\f", "1\0", "1;2", "1 2", "0.30000000000000004441", "2.2250738585072011e-308", "1e23"),
        *("", " ", ",", "1,", "١", "7.0064923216240853546186479164495e-46", "1.17549428e-38", str(10**400)),
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
