"""U1: texts of every kind. Refused here with their index before anything is sent, or passed on to the last byte."""

from __future__ import annotations

import random
import sys
import unicodedata

import numpy as np
import pytest

from mrlclient import Embedder, InputError
from mrlclient.cache import MemoryCache
from tests.faults.matrix import ADDRESSES, TEXTS, Case, check, embed, expected_rows, named, of_emulator, provider_at
from tests.faults.server import MODEL, TINY_TEXTS, Connection, serving, texts_of, tiny_answer, tiny_provider, tiny_rows

COUNT = 1000

#: No text, or none that can be sent.
_REFUSED = {
    "empty": "",
    "a blank": " ",
    "blanks": " \t\r\n\v\f",
    "blanks of other scripts": "\u00a0\u2003\u3000\u2028",
    "a high surrogate": "a\ud800",
    "a low surrogate": "\udfff b",
    "surrogates the wrong way round": "\udc00\ud800",
    "a byte of no encoding": b"caf\xe9".decode("ascii", "surrogateescape"),
    "a surrogate far behind": "word " * 100_000 + "\ud834",
    "None": None,
    "bytes": b"text",
    "a number": 7,
    "a float": float("nan"),
    "a list": ["text"],
    "a numpy number": np.float32(1.0),
}

#: Odd, and to be passed on as they are.
PASSED = {
    "NUL": "a\0b",
    "NUL alone": "\0",
    "controls": "\x01\x02\x1b[31m\x7f\x85",
    "a byte order mark": "\ufeffa text",
    "a byte order mark alone": "\ufeff",
    "right to left": "שלום עולם مرحبا",
    "right to left, overridden": "\u202eabc\u202c",
    "joined": "👩‍👩‍👧‍👦",
    "a joiner alone": "\u200d",
    "composed": unicodedata.normalize("NFC", "é"),
    "decomposed": unicodedata.normalize("NFD", "é"),
    "marks upon marks": "a" + "\u0301" * 500,
    "no character": "\uffff\ufffe",
    "the last one": "\U0010ffff",
    "private": "\ue000",
    "beyond the basic plane": "𝒳𐍈😀",
    "ends of lines": "a\r\nb\rc\nd\u2028e",
    "blanks around": "  a text  ",
    "what JSON escapes": '"\\/\b\f\n\r\t{}[]',
    "what looks escaped": r"\u0041 \ud800 %00 &amp;",
    "what looks like a key": "sk-0123456789abcdef",
    "case": "İıſßẞ",
    "wide": "ＡＢＣ",
    "a replacement character": "\ufffd",
    "a soft hyphen": "\u00ad",
}


def refused(name: str, text: object, at: int = 1) -> Case:
    texts = [*TEXTS[:at], text, *TEXTS[at:]]
    return Case(
        row="U1", name=name, inject=of_emulator(), expects=InputError, attempts=0, texts=texts, says=f"Text {at} "
    )


CASES = [
    *(refused(name, text) for name, text in _REFUSED.items()),
    refused("empty, at the end", "", at=3),
    *(
        Case(row="U1", name=name, inject=of_emulator(provider=provider), expects=None, attempts=1, texts=texts)
        for provider in ADDRESSES
        for name, texts in (
            (f"odd texts, {provider}", tuple(PASSED.values())),
            (f"a text twice, {provider}", ("the same", "another", "the same")),
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    outcome = check(case, face, emulator)
    if case.expects is not None:
        assert outcome.error.index == int(case.says.split()[1])


def any_text(chance: random.Random) -> str:
    """Characters of all planes, none of them a surrogate, and not only blanks."""
    points = (chance.choice((range(1, 128), range(128, 0xD800), range(0xE000, sys.maxunicode + 1))) for _ in range(9))
    return "x" + "".join(chr(chance.choice(each)) for each in points)


def test_what_arrives_is_what_was_given(face, emulator):
    """To the last byte, in one request; and the vectors are of these very texts."""
    chance = random.Random(1)
    texts = [*PASSED.values(), *(any_text(chance) for _ in range(COUNT - len(PASSED)))]
    with Embedder(provider_at(emulator, "openai", 30.0)) as embedder:
        rows = embed(embedder, face, texts)
    assert [request.body["input"] for request in emulator.requests] == [texts]
    np.testing.assert_allclose(rows, expected_rows(MODEL, texts, 1536), atol=1e-5)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_other_forms_of_a_text_are_other_texts(form, face, emulator):
    """They look the same, and are not the same to a model: neither is answered from the other's place in a cache."""
    text = unicodedata.normalize("NFC", "Ångström ﬁn ") + unicodedata.normalize("NFD", "café")
    other = unicodedata.normalize(form, text)
    assert other != text
    with Embedder(provider_at(emulator, "openai"), cache=MemoryCache()) as embedder:
        for each in (text, other):
            np.testing.assert_allclose(embed(embedder, face, [each]), expected_rows(MODEL, [each], 1536), atol=1e-5)
    assert [request.body["input"] for request in emulator.requests] == [[text], [other]]


def test_a_long_text_is_refused_by_the_server_with_its_index(face, emulator):
    """Nobody counts OpenAI's tokens here; a text of 1 MB goes out alone, whole, and the server's refusal names it."""
    long = "word " * 200_000
    with Embedder(provider_at(emulator, "openai", 30.0)) as embedder, pytest.raises(InputError) as caught:
        embed(embedder, face, ["a short one", long])
    assert caught.value.index == 1
    assert any(request.body["input"] == [long] for request in emulator.requests)


def test_a_long_text_is_never_cut_without_a_word(face, emulator):
    """Left to itself, Voyage's server would embed the beginning."""
    long = "word " * 50_000
    with Embedder(provider_at(emulator, "voyage", 30.0)) as embedder, pytest.raises(InputError) as caught:
        embed(embedder, face, [long])
    assert caught.value.index == 0
    assert emulator.requests[0].body["truncation"] is False


@pytest.mark.soak
def test_a_million_tiny_texts(face):
    """2 ** 20 of them, and two thousand again: each goes out once, and all rows are there, in their order."""
    numbers = [*range(TINY_TEXTS), *range(0, TINY_TEXTS, 512)]

    def script(connection: Connection) -> None:
        while request := connection.read_request():
            connection.send(tiny_answer(texts_of(request)))

    with serving(script) as server, Embedder(tiny_provider(server.url)) as embedder:
        rows = embed(embedder, face, [f"{number:x}" for number in numbers])
    np.testing.assert_allclose(rows, tiny_rows(numbers), atol=1e-6)
    assert len(server.received) == TINY_TEXTS / 2048
