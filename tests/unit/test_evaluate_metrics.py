import random

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, nDCG

from mrlclient.evaluate import mrr, ndcg, overlap, rank, recall
from mrlclient.evaluate.metrics import Judgements


def as_trec_eval_sorts(scores):
    """Best first; of equal scores the greater document id, which is trec_eval's rule."""
    return [document for document, _ in sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)]


@pytest.mark.parametrize("k", [1, 3, 10, 100])
@pytest.mark.parametrize("seed", range(5))
def test_ndcg_is_that_of_trec_eval(seed, k):
    draw = random.Random(seed)
    documents = [f"d{i:03}" for i in range(60)]
    grades = [0, 0, 0, 1, 1, 2, 3]
    qrels = {f"q{i}": {d: draw.choice(grades) for d in draw.sample(documents, 25)} for i in range(30)}
    # Few scores, so that many tie; relevant documents that are not found; documents that nobody judged.
    run = {q: {d: float(draw.randint(0, 9)) for d in draw.sample(documents, draw.randint(1, 40))} for q in qrels}
    oracle = {metric.query_id: metric.value for metric in ir_measures.iter_calc([nDCG @ k], qrels, run)}
    ours = ndcg({q: as_trec_eval_sorts(scores) for q, scores in run.items()}, qrels, k=k)
    assert ours.keys() == oracle.keys()
    for query, value in ours.items():
        assert value == pytest.approx(oracle[query], abs=1e-9)


def test_a_known_item_by_its_rank():
    rankings = {0: [7, 8, 9], 1: [8, 7, 9], 2: [8, 9, 7], 3: [8, 9]}
    scores = ndcg(rankings, {query: {7: 1.0} for query in rankings}, k=3)
    assert scores == pytest.approx({0: 1.0, 1: 1 / np.log2(3), 2: 0.5, 3: 0.0})


def test_the_gain_is_linear():
    assert ndcg({"q": ["b", "a"]}, {"q": {"a": 3, "b": 1}})["q"] == pytest.approx(
        (1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3))
    )


def test_only_what_is_judged_is_scored():
    qrels = {"found": {"a": 1}, "missing": {"a": 1}, "nothing relevant": {"a": 0}, "unwanted": {"a": -1, "b": 1}}
    rankings = {"found": ["a"], "not judged": ["a"], "nothing relevant": ["a"], "unwanted": ["a", "b"]}
    assert ndcg(rankings, qrels) == pytest.approx(
        {"found": 1.0, "missing": 0.0, "nothing relevant": 0.0, "unwanted": 1 / np.log2(3)}
    )


def test_ranks_beyond_k_do_not_count():
    assert ndcg({"q": ["a", "b", "c"]}, {"q": {"c": 1}}, k=2) == {"q": 0.0}


def test_what_is_no_ranking():
    with pytest.raises(ValueError, match="twice"):
        ndcg({"q": ["a", "a"]}, {"q": {"a": 1}})
    with pytest.raises(ValueError, match="positive"):
        ndcg({}, {}, k=0)
    with pytest.raises(ValueError, match="positive"):
        rank(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), k=0)


@pytest.mark.parametrize("k", [1, 7, 50, 99])
def test_rank_is_a_stable_sort_of_all_scores(k):
    # Small integers: their products are exact and many of them tie.
    draw = np.random.default_rng(k)
    queries = draw.integers(-2, 3, (300, 4)).astype(np.float32)
    documents = draw.integers(-2, 3, (50, 4)).astype(np.float32)
    expected = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rank(queries, documents, k), expected)


@pytest.mark.parametrize(("queries", "documents"), [(0, 5), (5, 0), (0, 0)])
def test_rank_of_nothing(queries, documents):
    found = rank(np.zeros((queries, 3), np.float32), np.zeros((documents, 3), np.float32))
    assert found.shape == (queries, documents)


@pytest.mark.parametrize("k", [1, 3, 10, 100])
@pytest.mark.parametrize("seed", range(3))
def test_recall_and_mrr_are_those_of_trec_eval(seed, k):
    draw = random.Random(seed)
    documents = [f"d{i:03}" for i in range(60)]
    qrels = {f"q{i}": {d: draw.choice([0, 0, 1, 2]) for d in draw.sample(documents, 25)} for i in range(30)}
    # No scores tie: the two libraries behind these measures break ties in two ways.
    run = {q: {d: draw.random() for d in draw.sample(documents, draw.randint(1, 40))} for q in qrels}
    rankings = {q: as_trec_eval_sorts(scores) for q, scores in run.items()}
    for ours, measure in ((recall(rankings, qrels, k=k), R @ k), (mrr(rankings, qrels, k=k), RR @ k)):
        oracle = {metric.query_id: metric.value for metric in ir_measures.iter_calc([measure], qrels, run)}
        assert ours == pytest.approx(oracle, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_rankings_by_places_are_scored_as_those_by_name(seed):
    draw = random.Random(seed)
    qrels = [{d: draw.choice([-1.0, 0.0, 1.0, 2.0]) for d in draw.sample(range(40), 9)} for _ in range(20)] + [{}]
    rankings = np.array([draw.sample(range(40), 15) for _ in qrels])
    gains = Judgements(qrels, 40).gains(rankings)
    by_name = dict(enumerate(qrels))
    for function in (ndcg, recall, mrr):
        scores = function(dict(enumerate(rankings)), by_name, k=10)
        assert getattr(gains, function.__name__)(10).tolist() == list(scores.values())


def test_overlap_counts_what_both_have():
    ones, others = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 2, 9], [6, 5, 4]])
    assert overlap(ones, others, k=3) == pytest.approx([2 / 3, 1.0])
    assert overlap(ones, others, k=1) == pytest.approx([0.0, 0.0])
    assert overlap(ones, others) == pytest.approx([2 / 3, 1.0])
    with pytest.raises(ValueError, match="cannot be compared"):
        overlap(ones, others[:1])
