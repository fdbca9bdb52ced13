import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient.keys import KeyMaker

SECRET = bytes(range(32))
fields = st.lists(st.text(st.characters(codec="utf-8"), max_size=6), max_size=5)


def key_of(fields_and_text, secret=SECRET):
    *before, text = fields_and_text
    return KeyMaker(secret, before).key(text)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=4), min_size=1, max_size=5), st.data())
def test_shifted_borders_never_collide(parts, data):
    """The same characters, cut into fields elsewhere, are other fields."""
    joined = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(joined)), max_size=4)))
    other = [joined[a:b] for a, b in zip([0, *cuts], [*cuts, len(joined)], strict=True)]
    assert (key_of(parts) == key_of(other)) == (parts == other)


def test_a_million_tuples_with_shifted_borders():
    """10^6 tuples over parts that run into each other, with separators and lengths among them: no two keys equal."""
    parts = ["a", "aa", "ab", "", "\0", "\x01\0\0\0\0\0\0\0", '","', ":", "query", "document"]
    keys = set()
    for before in itertools.product(parts, repeat=5):
        maker = KeyMaker(SECRET, before)
        keys.update(maker.keys(parts))
    assert len(keys) == 1_000_000


def test_keys_depend_on_the_secret_and_hold_no_text():
    assert key_of(["f", "canary"]) != key_of(["f", "canary"], b"another secret..")
    assert b"canary" not in key_of(["f", "canary"])
    assert len(key_of(["f", "canary"])) == 32


@pytest.mark.parametrize("text", ["é", "e\u0301"])
def test_normal_forms_are_different_texts(text):
    assert key_of(["f", text]) == key_of(["f", text])
    assert key_of(["f", "é"]) != key_of(["f", "e\u0301"])
