from __future__ import annotations

import pytest

from tests.faults.matrix import FACES, accounts_forgotten


@pytest.fixture(params=FACES)
def face(request):
    return request.param


@pytest.fixture(autouse=True)
def _accounts_forgotten():
    with accounts_forgotten():
        yield
