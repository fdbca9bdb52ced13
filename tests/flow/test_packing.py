"""Requests that are packed by an estimate of their tokens, against a server that counts them and refuses too many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import BadRequestError
from mrlclient.flow import embed
from mrlclient.operations import Answer
from mrlclient.packing import Packing
from mrlclient.testing import ScriptedDriver
from tests.flow.acme import SPEC, Dialect, ScriptedGate, call_of, route_to, run, unit, vector

LIMIT = 2_000


class Counting:
    """A server with a tokenizer of its own.

    Attributes:
        refused: How often a request was too large.
    """

    def __init__(self, tokens, limit=LIMIT):
        self.tokens, self.limit = tokens, limit
        self.refused = 0
        self.answered = []

    def __call__(self, batch):
        total = sum(map(self.tokens, batch.texts))
        if total > self.limit and len(batch.texts) > 1:
            self.refused += 1
            raise BadRequestError("too many tokens", status=400, scope="size")
        self.answered += batch.texts
        return Answer(np.array([vector(text) for text in batch.texts]), tokens=total)

    def exactly(self, texts):
        """Requests that somebody needs who knows the tokens."""
        requests = filled = 0
        for count in map(self.tokens, texts):
            filled += count
            if not requests or filled > self.limit:
                requests, filled = requests + 1, count
        return requests


def dialect(max_tokens=LIMIT):
    made = Dialect(SPEC)
    made.packing = Packing(1000, max_tokens, estimated=True, max_request_bytes=1 << 20)
    return made


def every_third(text):
    return -(-len(text) // 3)


def each_byte(text):
    return len(text.encode())


def every_other_character(text):
    return -(-len(text) // 2)


def latin(count):
    return [f"an ordinary text, the {i}th of them, " * 4 for i in range(count)]


def greek(count):
    return [f"ένα συνηθισμένο κείμενο, το {i}ο από όλα, " * 4 for i in range(count)]


@pytest.mark.parametrize("tokens", [every_third, every_other_character, each_byte])
@pytest.mark.parametrize("texts", [latin(300), greek(300), latin(150) + greek(150)], ids=["latin", "greek", "both"])
def test_each_text_is_had_once_and_the_next_call_knows_better(tokens, texts):
    route = route_to(dialect())
    for known in (False, True):
        server = Counting(tokens)
        result, driver = run(texts, server, route=route)
        np.testing.assert_allclose(result.embeddings, unit([vector(text) for text in texts]), atol=1e-6)
        assert sorted(server.answered) == sorted(texts)
        # A text is a good part of a request here, so not all of it can be used.
        if known and texts[0].isascii() == texts[-1].isascii():
            assert server.refused == 0
            assert len(driver.sent) <= server.exactly(texts) * 1.2 + 1


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: not text.isspace())), st.data())
def test_a_wrong_estimate_loses_nothing(texts, data):
    """A tokenizer like no other: not even of like texts are the tokens alike."""
    counts = {text: data.draw(st.integers(1, 3 * len(text.encode()))) for text in texts}
    server = Counting(counts.__getitem__, data.draw(st.integers(1, 100)))
    result, _ = run(texts, server, dialect=dialect(data.draw(st.integers(1, 100))))
    assert not result.errors
    assert sorted(server.answered) == sorted(set(texts))


def test_a_bound_that_nobody_knew_of_is_remembered():
    """As where a gateway takes less than the model, or an account may use less in a minute."""
    texts, route = latin(300), route_to(dialect(max_tokens=LIMIT * 4))
    first, later = Counting(every_third), Counting(every_third)
    run(texts, first, route=route)
    run(texts, later, route=route)
    assert first.refused > 0
    assert later.refused <= 2


def test_halves_are_sent_as_they_are():
    """Even where the estimate would now cut them smaller."""
    texts = latin(40)
    server = Counting(each_byte, limit=5_000)
    _, driver = run(texts, server, dialect=dialect(max_tokens=5_000))
    sizes = [len(batch.texts) for batch in driver.sent]
    first = sizes[0]
    assert server.refused > 0
    assert sizes[1] == first // 2
    assert first - first // 2 in sizes


class Accounts(ScriptedGate):
    """Remembers what was reserved and what it came to."""

    def __init__(self):
        super().__init__()
        self.reserved, self.settled = [], []

    def reserve(self, tokens):
        self.reserved.append(tokens)
        return super().reserve(tokens)

    def settle(self, reserved, used):
        self.settled.append((reserved, used))


def test_what_a_minute_is_charged_with_is_estimated_and_settled():
    gate, texts = Accounts(), latin(10)
    total = sum(map(every_third, texts))
    route = route_to(dialect(), gate)
    for _ in range(2):
        driver = ScriptedDriver(Counting(every_third))
        gate.driver = driver
        driver.run(embed(call_of(texts, route)))
    first, second = gate.reserved
    assert gate.settled == [(first, total), (second, total)]
    assert first > total
    assert second == pytest.approx(total, abs=2)
