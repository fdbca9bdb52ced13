from __future__ import annotations

import pytest

from tests.faults.matrix import FACES


@pytest.fixture(params=FACES)
def face(request):
    return request.param
