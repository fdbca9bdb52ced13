import numpy as np
import pytest

from mrlclient import EmbeddingResult, ModelSpec, Usage
from mrlclient.evaluate._examples import examples

SPEC = ModelSpec(provider="acme", name="letters", native_dimensions=8, matryoshka=True)


def result(matrix):
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return EmbeddingResult(unit.astype(np.float32), SPEC, "native", None, None, Usage(None, None))


@pytest.fixture
def texts():
    draw = np.random.default_rng(5)
    documents = draw.standard_normal((40, 8))
    relevant = [int(i) for i in draw.permutation(40)[:30]]
    return result(documents[relevant] + 0.3 * draw.standard_normal((30, 8))), result(documents), relevant


def own_rank(queries, documents, relevant, query, width):
    scores = documents.at(width) @ queries.at(width)[query]
    return int(np.sum(scores > scores[relevant[query]])) + 1


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_middle_of_each_part(texts, count):
    queries, documents, _ = texts
    found, answered = examples(*texts, [8, 4, 2], count=count)
    candidates = [i for i in range(30) if own_rank(*texts, i, 8) == 1]
    assert answered == len(candidates) > count
    by_loss = sorted(candidates, key=lambda i: own_rank(*texts, i, 2))
    assert [example.query for example in found] == [by_loss[int((i + 0.5) * answered / count)] for i in range(count)]
    for example in found:
        assert example.ranks == {width: own_rank(*texts, example.query, width) for width in (8, 4, 2)}
        assert example.first == {
            width: int(np.argmax(documents.at(width) @ queries.at(width)[example.query])) for width in (8, 4, 2)
        }
    assert any(example.ranks[2] > 1 for example in found)


def test_fewer_than_asked_for(texts):
    queries, documents, relevant = texts
    two = result(queries.embeddings[:2])
    assert len(examples(two, documents, relevant[:2], [8, 2], count=9)[0]) <= 2


def test_none_that_is_answered():
    matrix = np.eye(8)[:2]
    assert examples(result(matrix), result(matrix), [1, 0], [8]) == ([], 0)
