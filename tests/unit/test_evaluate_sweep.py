"""A sweep is what a plain computation gives, at every width; and nothing is dropped without a word."""

import json
import math
import os
import platform
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from benchmarks.sweep import Prepared, prepared
from mrlclient import Embedder
from mrlclient.errors import ConfigurationError, InputError, NotMatryoshkaError
from mrlclient.evaluate import Outcome, SearchData, docstrings, load, sweep
from mrlclient.evaluate._references import _rotated
from mrlclient.evaluate._searching import Searcher
from mrlclient.quantize import dequantize
from tests.conftest import REAL_ENVIRONMENT

#: Collections that are not part of the project: in the folder that the variable names, or beside the checkout.
DATA = Path(
    REAL_ENVIRONMENT.get("MRLCLIENT_TEST_DATA") or Path(__file__).parent.parent.parent.parent / "shared" / "data"
)
WIDTHS = (128, 32)


def plain_scores(queries, documents, qrels):
    """nDCG@10, recall@10, recall@100 and MRR@10 as their definitions say, one query at a time."""
    found = []
    for query, grades in zip(queries, qrels, strict=True):
        order = np.argsort(-(documents @ query), kind="stable")[:100]
        gains = [grades.get(int(place), 0.0) for place in order]
        dcg = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:10], start=1))
        best = sorted(grades.values(), reverse=True)[:10]
        ideal = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(best, start=1))
        relevant = sum(grade > 0 for grade in grades.values())
        first = next((1 / rank for rank, gain in enumerate(gains[:10], start=1) if gain > 0), 0.0)
        found.append(
            (dcg / ideal, sum(g > 0 for g in gains[:10]) / relevant, sum(g > 0 for g in gains) / relevant, first)
        )
    return dict(zip(("ndcg@10", "recall@10", "recall@100", "mrr@10"), np.mean(found, axis=0).tolist(), strict=True))


_LARGE = [pytest.param(name, marks=pytest.mark.soak) for name in ("docstrings", "xquad-multi")]


@pytest.mark.parametrize("name", ["scifact-mini", "xquad-en", *_LARGE])
def test_it_is_what_a_plain_computation_gives(name):
    if name == "docstrings":
        data = SearchData.of(docstrings())
    elif (DATA / name).is_dir():
        data = load(DATA / name)
    else:
        pytest.skip(f"there is no {name} in {DATA.name}: MRLCLIENT_TEST_DATA may name its folder")
    with Embedder() as embedder:
        outcome = sweep(
            embedder, data, widths=WIDTHS, dtypes=["float32"], references=False, funnel=False, resamples=1000
        )
        queries = embedder.embed(data.queries, input_type="query").embeddings.astype(np.float64)
        documents = embedder.embed(data.documents, input_type="document").embeddings.astype(np.float64)
    assert data.qrels is not None
    assert [point.dimensions for point in outcome.models[0].points] == [256, *WIDTHS]
    for point in outcome.models[0].points:
        cut = [rows[:, : point.dimensions] for rows in (queries, documents)]
        asked, rows = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in cut)
        assert point.scores == pytest.approx(plain_scores(asked, rows, data.qrels), abs=1e-6)


@pytest.fixture(scope="module")
def made():
    rows, data = prepared(600, 120, 64)
    with Embedder(Prepared(rows)) as embedder:
        outcome = sweep(embedder, data, group_by="group", resamples=1000, tolerance=0.05)
    return rows, data, outcome


def test_every_width_and_type_with_and_without_rescoring(made):
    outcome = made[2]
    (model,) = outcome.models
    sizes = [(point.dtype, point.rescored, point.dimensions) for point in model.points]
    kinds = [("float32", False), ("float16", False), ("int8", False), ("int8", True), ("binary", False)]
    assert sizes == [(*kind, width) for kind in [*kinds, ("binary", True)] for width in (64, 48, 32)]
    assert outcome.settings.walks == 6
    assert {point.bytes_per_vector for point in model.points if point.dtype == "binary"} == {8, 6, 4}
    assert all(point.bytes_total == 600 * point.bytes_per_vector for point in model.points)
    assert all((point.rescore_bytes_per_vector > 0) == point.rescored for point in model.points)
    assert all(point.milliseconds > 0 for point in model.points)
    assert model.full.loss.mean == model.full.hurt == 0.0


def test_binary_is_hamming_distance_and_rescoring_puts_its_best_in_order(made):
    rows, data, outcome = made
    points = {(p.dtype, p.rescored, p.dimensions): p for p in outcome.models[0].points}
    places = np.random.default_rng(0).permutation(600)
    documents, queries = np.empty((600, 64), np.float32), rows[600:]
    documents[places] = rows[:600]
    qrels = [{int(places[document]): 1.0 for document in grades} for grades in data.qrels]
    signs = plain_scores(np.where(queries > 0, 1, -1), np.where(documents > 0, 1, -1), qrels)
    assert points["binary", False, 64].scores == pytest.approx(signs, abs=1e-9)
    shortlists = np.argsort(-(np.where(queries > 0, 1, -1) @ np.where(documents > 0, 1, -1).T), kind="stable")[:, :100]
    best = []
    for query, near, grades in zip(queries, shortlists, qrels, strict=True):
        exact = documents[near] @ query
        (own,) = grades
        rank = 1 + int((exact > exact[near == own]).sum()) if own in near else 99
        best.append(1 / math.log2(rank + 1) if rank <= 10 else 0.0)
    assert points["binary", True, 64].scores["ndcg@10"] == pytest.approx(np.mean(best), abs=1e-9)


def test_groups_and_worst_queries_add_up(made):
    _, data, outcome = made
    for point in outcome.models[0].points:
        assert [group.name for group in point.groups] == ["even", "odd"]
        assert sum(group.queries * group.loss.mean for group in point.groups) == pytest.approx(120 * point.loss.mean)
        drops = [query.before - query.after for query in point.worst]
        assert drops == sorted(drops, reverse=True)
        assert all(drop > 0 for drop in drops)
        if point.hurt:
            assert drops[0] > 0.1
            assert point.worst[0].text in data.queries


def test_the_advice_is_the_smallest_that_is_within(made):
    outcome = made[2]
    (model,) = outcome.models
    within = [point for point in model.points if point.verdict == "within"]
    assert all(point.bound <= 0.05 for point in within)
    assert model.recommended is not None
    assert model.recommended.bytes_per_vector == min(point.bytes_per_vector for point in within)
    assert model.recommendation.kind == "smaller"
    assert str(model.recommended.bytes_per_vector) in " ".join(model.recommendation.reasons)


def test_references_and_funnels_are_lines_to_compare_with(made):
    (model,) = made[2].models
    assert {(each.name, each.dimensions) for each in model.references} == {
        (name, width) for name in ("pca", "rotation") for width in (48, 32)
    }
    exact = model.full.scores["ndcg@10"]
    funnel = {(each.shortlist_dimensions, each.depth): each for each in model.funnel}
    assert set(funnel) == {(48, 100), (48, 200), (32, 100), (32, 200)}
    for each in funnel.values():
        assert each.scores["ndcg@10"] == pytest.approx(exact, abs=0.05)
        assert each.cost == pytest.approx((600 * each.shortlist_dimensions + each.depth * 64) / (600 * 64))
        assert each.shortlist_bytes == 600 * each.shortlist_dimensions * 4
        assert each.rescore_bytes == 600 * 64 * 4
        assert each.milliseconds is not None
        assert each.milliseconds > 0
        assert each.exact_milliseconds is not None
        assert each.exact_milliseconds > 0
    lines = {(each.name, each.dimensions): each.scores["ndcg@10"] for each in model.references}
    assert lines["pca", 48] > lines["pca", 32]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary"])
def test_documents_are_searched_in_blocks_and_found_the_same(dtype):
    rows, _ = prepared(500, 40, 64)
    whole = Searcher.of(rows[:500], rows[500:], dtype)
    assert whole.block > 500 * 40
    # Three queries at a time, and 24 documents.
    small = replace(whole, block=1536)
    assert np.array_equal(small.rank(20), whole.rank(20))
    exact = np.argsort(-(dequantize(whole.asked) @ dequantize(whole.stored).T), axis=1, kind="stable")
    if dtype != "binary":
        assert np.mean(exact[:, :20] == whole.rank(20)) > 0.99


def test_a_rotation_is_one_for_documents_and_queries():
    rows, _ = prepared(5000, 40, 64)
    turned, asked = (_rotated(part, 64, (7, 1)) for part in (rows[:5000], rows[5000:]))
    np.testing.assert_allclose(asked @ turned.T, rows[5000:] @ rows[:5000].T, atol=1e-5)
    assert not np.allclose(asked, rows[5000:], atol=0.1)
    assert not np.allclose(asked, _rotated(rows[5000:], 64, (7, 2)), atol=0.1)
    assert np.array_equal(asked[:, :16], _rotated(rows[5000:], 16, (7, 1)))


def test_it_says_what_made_it(made):
    outcome = made[2]
    assert datetime.fromisoformat(outcome.made).utcoffset() == timedelta(0)
    by = outcome.environment
    assert by is not None
    assert platform.python_version() in by.python
    assert by.numpy == np.__version__
    assert platform.system() in by.platform
    assert by.processor
    assert by.cores == os.cpu_count()
    assert outcome.models[0].revision is None

    class Pinned(Prepared):
        @property
        def revision(self):
            return "0123abc"

    rows, data = prepared(60, 60, 16)
    with Embedder(Pinned(rows)) as embedder:
        pinned = sweep(embedder, data, widths=[], dtypes=["float32"], references=False, funnel=False, resamples=1000)
    assert pinned.models[0].revision == "0123abc"
    assert Outcome.from_dict(json.loads(json.dumps(pinned.to_dict()))).environment == pinned.environment


def test_it_travels(made):
    outcome = made[2]
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict(texts=True)))) == outcome


def test_documents_that_tie_stand_in_no_order_of_theirs():
    # All the same: only where the answer stands in the file could tell it from the others.
    rows = np.ones((400, 8), np.float32) / np.float32(8**0.5)
    names = [str(row) for row in range(400)]
    data = SearchData("ties", names[:200], names[:200], names[200:], names[200:], [{0: 1.0}] * 200)
    with Embedder(Prepared(rows)) as embedder:
        outcome = sweep(embedder, data, widths=[8], dtypes=["float32"], references=False, resamples=1000, seed=1)
    assert outcome.models[0].full.scores["mrr@10"] < 1.0


def test_without_judgements_it_is_agreement_and_says_so():
    rows, data = prepared(300, 60, 32)
    with Embedder(Prepared(rows)) as embedder:
        outcome = sweep(embedder, replace(data, qrels=None), widths=[16], resamples=1000)
    assert (outcome.data.judged, outcome.data.measure) == (False, "overlap@10")
    full, narrow, *_ = outcome.models[0].points
    assert full.scores == {"overlap@10": 1.0, "overlap@100": 1.0}
    top = []
    for width in (32, 16):
        documents = rows[:300, :width] / np.linalg.norm(rows[:300, :width], axis=1, keepdims=True)
        top.append(np.argsort(-(rows[300:, :width] @ documents.T), axis=1)[:, :10])
    both = np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(*top, strict=True)])
    assert narrow.scores["overlap@10"] == pytest.approx(both)
    assert "not how good it is" in outcome.notes[0]


def test_few_queries_are_not_enough_evidence():
    rows, data = prepared(200, 49, 32)
    with Embedder(Prepared(rows)) as embedder:
        outcome = sweep(embedder, data, dtypes=["float32"], widths=[16], resamples=1000)
    advice = outcome.models[0].recommendation
    assert (advice.kind, advice.dimensions) == ("not enough evidence", None)
    assert advice.queries_needed >= 50
    assert outcome.models[0].recommended is None
    assert outcome.models[0].points[1].verdict != "within"


def test_a_loss_that_is_plain_leaves_the_full_width():
    draw = np.random.default_rng(0)
    rows, data = prepared(300, 100, 32)
    # The answer is in the last numbers only.
    rows[:, :16] = draw.standard_normal((400, 16)) * 0.1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with Embedder(Prepared(rows)) as embedder:
        outcome = sweep(embedder, data, dtypes=["float32"], widths=[8], resamples=1000)
    (model,) = outcome.models
    assert model.points[1].verdict == "beyond"
    assert (model.recommendation.kind, model.recommendation.dimensions) == ("full", 32)


def test_models_side_by_side_at_equal_bytes():
    rows, data = prepared(300, 80, 64)
    worse = rows + np.random.default_rng(1).standard_normal(rows.shape, dtype=np.float32) * 0.15
    worse /= np.linalg.norm(worse, axis=1, keepdims=True)
    with Embedder(Prepared(rows)) as one, Embedder(Prepared(worse, "worse")) as other:
        outcome = sweep([one, other], data, widths=[32], resamples=1000, references=False, funnel=False)
    assert [each.bytes_per_vector for each in outcome.comparisons] == [256, 128, 64, 32, 8, 4]
    for each in outcome.comparisons:
        first = outcome.models[0].points[each.first_point]
        second = outcome.models[1].points[each.second_point]
        assert first.bytes_per_vector == second.bytes_per_vector == each.bytes_per_vector
        assert each.difference.mean == pytest.approx(first.scores["ndcg@10"] - second.scores["ndcg@10"])
    assert outcome.comparisons[0].difference.p_value < 0.05


def test_what_is_left_out_is_told():
    rows, data = prepared(60, 60, 24)
    data.qrels[3] = {5: 0.0}
    with Embedder(Prepared(rows)) as embedder:
        outcome = sweep(embedder, data, widths=[12, 48], resamples=1000)
    told = " ".join(outcome.notes)
    assert outcome.data.queries == 59
    assert "1 of 60 queries have no document" in told
    assert "int8 was not measured" in told
    assert "Binary was not measured at 12" in told
    assert "has no 48 dimensions" in told
    with Embedder(Prepared(rows, matryoshka=False)) as embedder:
        outcome = sweep(embedder, data, resamples=1000)
        assert {point.dimensions for point in outcome.models[0].points} == {24}
        assert "not trained to be cut" in " ".join(outcome.notes)
        with pytest.raises(NotMatryoshkaError):
            sweep(embedder, data, widths=[12])


def test_texts_that_share_their_vectors_cost_no_sweep():
    rows, data = prepared(200, 60, 16)
    rows[:200] = rows[np.arange(200) % 50]
    with Embedder(Prepared(rows)) as embedder:
        outcome = sweep(embedder, data, widths=[8], dtypes=["int8", "binary"], resamples=1000)
    assert {point.dtype for point in outcome.models[0].points} == {"float32", "binary"}
    assert "int8 was not measured at 16, 8 dimensions" in " ".join(outcome.notes)


def test_where_a_narrow_width_has_too_few_vectors_for_int8_the_others_have_theirs():
    rows, data = prepared(200, 60, 16)
    # Along the first number there are two directions.
    with Embedder(Prepared(rows)) as embedder:
        outcome = sweep(embedder, data, widths=[8, 1], dtypes=["int8"], resamples=1000)
    assert {point.dimensions for point in outcome.models[0].points if point.dtype == "int8"} == {16, 8}
    assert "int8 was not measured at 1 dimensions" in " ".join(outcome.notes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tolerance": 0.0}, "tolerance must be a number between 0 and 1"),
        ({"tolerance": float("nan")}, "tolerance must be"),
        ({"confidence": 1}, "confidence must be"),
        ({"resamples": 999}, "resamples must be a whole number from 1,000"),
        ({"rescore_depth": 0}, "rescore_depth must be"),
        ({"dtypes": ["int4"]}, "dtypes may have .* not 'int4'"),
        ({"dtypes": ["int8"]}, "int8 takes its range from 100 different documents"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_embedded(arguments, said):
    rows, data = prepared(60, 60, 16)

    class Untouched(Prepared):
        def compute(self, model, batch):
            raise AssertionError("it was embedded")

    with Embedder(Untouched(rows)) as embedder:
        with pytest.raises(ConfigurationError, match=said):
            sweep(embedder, data, **arguments)
        with pytest.raises(InputError, match="no field 'color'"):
            sweep(embedder, data, group_by="color")
        with pytest.raises(ConfigurationError, match="several of different models"):
            sweep([embedder, embedder], data)
        for given in ("wordllama:l2-supercat-256", [embedder, "wordllama:l2-supercat-256"]):
            with pytest.raises(ConfigurationError, match="sweep takes an Embedder or several, not str"):
                sweep(given, data)
        with pytest.raises(ConfigurationError, match="too few"):
            sweep(embedder, replace(data, qrels=[{}] * 60))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_it_takes_three_times_the_matrix_at_most():
    rows, data = prepared(5000, 300, 1024)
    with Embedder(Prepared(rows)) as embedder:
        tracemalloc.start()
        sweep(embedder, data, widths=range(128, 1025, 128), group_by="group")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak <= 3 * rows[:5000].nbytes
