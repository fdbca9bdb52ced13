"""Whether vectors nest: the figures against a plain count, and what no verdict may get wrong."""

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest

from mrlclient import ConfigurationError, DimensionsOutOfRangeError, Embedder, InputError, ModelSpec, WordLlama
from mrlclient.evaluate import Collection, docstrings, ndcg, probe, rank
from mrlclient.evaluate import _nesting as nesting
from mrlclient.evaluate._nesting import rotate, width_statistics
from mrlclient.evaluate._order import order_of

MODEL = "wordllama:l2-supercat-256"


#: The docstrings are other ones in each release of Python: with so many of them, the verdict does not hang on which.
TEXTS = 800


@pytest.fixture(scope="module")
def texts():
    return docstrings().documents[:TEXTS]


@pytest.fixture(scope="module")
def nested(texts):
    """(TEXTS, 256): a real Matryoshka model."""
    with Embedder(MODEL) as embedder:
        return embedder.embed(texts).embeddings


def gaussian(rows=300, width=128, seed=0, decay=0.0):
    """Vectors whose numbers are alike, apart from a spectrum that a rotation hides."""
    chance = np.random.default_rng(seed)
    made = chance.standard_normal((rows, width), dtype=np.float32)
    return made * (np.arange(1, width + 1, dtype=np.float32) ** -decay)


def test_a_rotation_keeps_every_angle():
    for width in (7, 64, 255, 384):
        vectors = gaussian(width=width)
        rotated = rotate(vectors, np.random.default_rng(1))
        assert (rotated.shape, rotated.dtype) == (vectors.shape, np.float32)
        np.testing.assert_allclose(rotated @ rotated.T, vectors @ vectors.T, atol=1e-3)
        # No number stands for itself.
        basis = rotate(np.eye(width, dtype=np.float32), np.random.default_rng(1))
        assert np.sort(np.abs(basis), axis=1)[:, -2].min() > 0.3 / width**0.5
        assert not np.allclose(rotated, rotate(vectors, np.random.default_rng(2)), atol=0.1)


def test_the_figures_are_those_of_a_plain_count(monkeypatch):
    monkeypatch.setattr(nesting, "ANCHORS", 1000)
    vectors = gaussian(rows=60, width=32, decay=0.5)
    found = width_statistics(vectors, [8, 16], draws=10, rotations=10, chance=np.random.default_rng(3))

    def neighbours(rows):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -2)
        return [set(row[:10]) for row in np.argsort(-cosines, axis=1)]

    whole = neighbours(vectors)
    for statistics in found:
        kept = neighbours(vectors[:, : statistics.dimensions])
        expected = np.mean([len(one & other) / 10 for one, other in zip(whole, kept, strict=True)])
        assert statistics.prefix == pytest.approx(expected, abs=1e-6)
    chance = np.random.default_rng(9)
    draws = [vectors[:, chance.permutation(32)[:16]] for _ in range(60)]
    mean = np.mean([np.mean([len(a & b) / 10 for a, b in zip(whole, neighbours(each), strict=True)]) for each in draws])
    assert found[1].random == pytest.approx(mean, abs=4 * found[1].random_sd / np.sqrt(10) + 0.01)


def test_a_matryoshka_model_is_found(nested):
    result = probe(nested)
    assert result.verdict == "matryoshka"
    assert {64, 128} <= set(result.widths) <= {8, 16, 32, 64, 128}
    assert [each.dimensions for each in result.statistics] == [8, 16, 32, 64, 128]
    for each in result.statistics:
        assert each.nested == (each.dimensions in result.widths)
        assert 0 < each.random < each.prefix < 1
    assert abs(result.order.trend) < 2.5
    assert 0.8 < result.order.correlation < 1.1
    assert (result.texts, result.duplicates, result.dimensions) == (TEXTS, 0, 256)


@pytest.mark.parametrize("seed", range(5))
def test_no_rotation_of_it_is(nested, seed):
    result = probe(rotate(nested, np.random.default_rng(100 + seed)), seed=seed)
    assert result.verdict != "matryoshka"
    assert len(result.widths) < 2


@pytest.mark.parametrize("made", ["pca", "pca of others", "sorted"])
def test_an_order_by_variance_is_no_training(nested, made):
    rows, others = nested[:250], nested[250:]
    ordinary = rotate(rows, np.random.default_rng(7))
    if made == "sorted":
        vectors = ordinary[:, np.argsort(-ordinary.var(axis=0))]
    else:
        fitted = rows if made == "pca" else others
        axes = np.linalg.eigh(np.cov(fitted, rowvar=False))[1]
        vectors = rows @ axes[:, ::-1]
    result = probe(vectors)
    assert result.verdict == "undecided"
    assert result.order.is_by_variance
    assert result.order.trend < -2
    if made == "pca":
        assert result.order.is_decorrelated
        assert "principal components" in result.reason
    assert made == "sorted" or len(result.widths) > 1
    with pytest.raises(ConfigurationError, match="no evidence"):
        result.spec(ModelSpec(provider="acme", name="m", native_dimensions=256, matryoshka=False))


def test_components_in_disorder_are_still_components(nested):
    """Within octaves in any order: only that they are uncorrelated tells."""
    axes = np.linalg.eigh(np.cov(nested, rowvar=False))[1][:, ::-1]
    chance = np.random.default_rng(5)
    edges = [0, 16, 32, 64, 128, 256]
    order = np.concatenate([chance.permutation(np.arange(a, b)) for a, b in pairwise(edges)])
    result = probe((nested @ axes)[:, order])
    assert result.order.trend > -2
    assert result.verdict == "undecided"
    assert "principal components" in result.reason


def test_an_ordinary_model_is_told_from_a_lack_of_texts(nested):
    ordinary = rotate(nested, np.random.default_rng(3))
    assert probe(ordinary).verdict == "not matryoshka"
    few = probe(ordinary[:60])
    assert few.verdict == "undecided"
    assert "60 different texts are too few" in few.reason
    assert probe(nested[:60]).verdict == "undecided"
    assert probe(nested[:5]).statistics == ()


@pytest.mark.parametrize("strength", [0.1, 0.15, 0.2])
def test_weights_that_fall_from_octave_to_octave_nest(strength):
    vectors = rotate(gaussian(rows=400, width=256, decay=0.4), np.random.default_rng(1))
    octave = np.maximum(np.ceil(np.log2(np.arange(1, 257) / 16)), 0)
    assert probe(vectors).verdict != "matryoshka"
    assert probe(vectors * (1 - strength) ** octave.astype(np.float32)).verdict == "matryoshka"


def test_a_large_number_in_front_is_no_nesting(nested):
    vectors = rotate(nested, np.random.default_rng(4))
    vectors[:, [0, 3, 5]] *= 6
    assert probe(vectors).verdict != "matryoshka"


def test_a_common_direction_changes_no_verdict(nested):
    common = np.random.default_rng(2).standard_normal(256).astype(np.float32)
    common *= 1 / np.linalg.norm(common)
    assert probe(nested + common).verdict == "matryoshka"
    assert probe(rotate(nested, np.random.default_rng(3)) + common).verdict != "matryoshka"


def test_duplicates_are_left_out(nested):
    alone = probe(nested[:200])
    twice = probe(np.repeat(nested[:200], 3, axis=0))
    assert (twice.texts, twice.duplicates) == (200, 400)
    assert twice.statistics == alone.statistics
    assert twice.verdict == alone.verdict


def test_the_same_seed_gives_the_same(nested):
    assert probe(nested[:150], seed=4) == probe(nested[:150], seed=4)
    longer = probe(nested[:150].astype(np.float64) * 3, seed=4)
    assert [each.prefix for each in longer.statistics] == pytest.approx(
        [each.prefix for each in probe(nested[:150], seed=4).statistics], abs=1e-3
    )
    assert probe(nested[:150], seed=4).statistics != probe(nested[:150], seed=5).statistics


def test_an_embedder_is_asked_at_its_full_width(nested, texts):
    with Embedder(MODEL, dimensions=64) as embedder:
        result = probe(embedder, texts)
    # The vectors are the same but for their last digits.
    for found, expected in zip(result.statistics, probe(nested).statistics, strict=True):
        assert (found.prefix, found.random) == pytest.approx((expected.prefix, expected.random), abs=1e-3)
    assert result.model.address == MODEL


def test_a_collection_brings_ndcg():
    found = docstrings()
    pairs = [(query, document) for query, document in enumerate(found.relevant) if document < 150]
    collection = Collection(
        "some", [found.queries[query] for query, _ in pairs], found.documents[:150], [document for _, document in pairs]
    )
    with Embedder(MODEL, on_narrow="allow") as embedder:
        result = probe(embedder, collection)
        with pytest.raises(ConfigurationError, match="have their roles"):
            probe(embedder, collection, input_type="query")
        queries = embedder.embed(collection.queries, input_type="query", dimensions=[256, 128, 8])
        documents = embedder.embed(collection.documents, input_type="document", dimensions=[256, 128, 8])
    for statistics in (result.statistics[0], result.statistics[-1]):
        rankings = rank(queries.at(statistics.dimensions), documents.at(statistics.dimensions))
        expected = np.mean(list(ndcg(dict(enumerate(rankings)), collection.qrels).values()))
        assert statistics.ndcg == pytest.approx(expected, abs=1e-3)
    assert result.statistics[0].ndcg_random < result.statistics[-1].ndcg_random < 1


def test_a_positive_verdict_makes_a_spec(nested):
    declared = ModelSpec(
        provider="acme", name="m", native_dimensions=256, matryoshka=False, sources={"native_dimensions": "seen"}
    )
    result = probe(nested)
    spec = result.spec(declared)
    assert spec == dataclasses.replace(declared, matryoshka=True, smallest_evaluated=result.widths[0])
    assert set(spec.sources) == {"native_dimensions", "matryoshka", "smallest_evaluated"}
    assert f"{TEXTS} texts" in spec.sources["matryoshka"]
    assert f"{result.statistics[-1].prefix:.3f}" in spec.sources["matryoshka"]
    with pytest.raises(ConfigurationError, match="which model"):
        result.spec()
    with pytest.raises(ConfigurationError, match="512 dimensions"):
        result.spec(dataclasses.replace(declared, native_dimensions=512))


def test_all_of_it_is_plain(nested):
    result = probe(nested[:120])
    values = json.loads(json.dumps(result.to_dict()))
    assert set(values) == {field.name for field in dataclasses.fields(result)}
    assert values["statistics"][-1]["dimensions"] == 128
    assert values["statistics"][-1]["gain"] == pytest.approx(result.statistics[-1].gain)
    assert values["order"]["trend"] == result.order.trend
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.verdict = "matryoshka"


def test_what_cannot_be_probed():
    good = gaussian()
    for wrong in ([[1.0, 2.0]], np.ones(4), np.ones((4, 4), dtype=int)):
        with pytest.raises(ConfigurationError, match="matrix of floats"):
            probe(wrong)
    for value in (np.nan, np.inf, 0.0):
        bad = good.copy()
        bad[7] = value
        with pytest.raises(InputError, match="Vector 7") as caught:
            probe(bad)
        assert caught.value.index == 7
    for widths in ([0, 4], [64, 128], [64, 64.0], [True, 8]):
        with pytest.raises(DimensionsOutOfRangeError, match="A width to probe"):
            probe(good, widths=widths)
    with pytest.raises(ConfigurationError, match="two or more"):
        probe(good, widths=[64, 64])
    with pytest.raises(ConfigurationError, match="neither texts nor a role"):
        probe(good, ["a"])
    for name in ("draws", "rotations"):
        with pytest.raises(ConfigurationError, match=f"{name} must be 10 or more"):
            probe(good, **{name: 3})
    narrow = probe(gaussian(width=12))
    assert (narrow.verdict, narrow.widths) == ("undecided", ())
    assert "too narrow" in narrow.reason


def test_numbers_that_never_vary_are_no_matter():
    vectors = gaussian(rows=200, width=64)
    vectors[:, 40:] = 0
    order = order_of(vectors, np.random.default_rng(0))
    assert np.isfinite([order.trend, order.correlation]).all()


def test_widths_are_checked_before_anything_is_sent(emulator):
    provider = WordLlama(MODEL)
    with Embedder(provider) as embedder, pytest.raises(DimensionsOutOfRangeError):
        probe(embedder, iter(()), widths=[256, 64])
