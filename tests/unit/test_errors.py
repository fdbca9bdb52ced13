import inspect
import pickle

import pytest

import mrlclient
from mrlclient import errors

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.MRLError)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_pickles_with_its_attributes(kind):
    names = [p.name for p in inspect.signature(kind.__init__).parameters.values() if p.kind is p.KEYWORD_ONLY]
    values = {name: ("a", "b") if name == "suggestions" else 7 for name in names}
    error = kind("what went wrong", **values)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == "what went wrong"
    assert {name: getattr(copy, name) for name in names} == values


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if not kind.__name__.startswith("_")])
def test_is_public_and_in_the_tree(kind):
    assert kind.__name__ in mrlclient.__all__
    assert getattr(mrlclient, kind.__name__) is kind
    assert f" {kind.__name__}" in errors.__doc__ or kind is errors.MRLError
