"""For every kind of Matryoshka model and every width: unit rows, and `at` equals cutting the widest."""

from __future__ import annotations

import numpy as np
import pytest

from mrlclient import catalogue
from mrlclient.call import Call
from mrlclient.dimensions import resolve
from mrlclient.endpoints import Endpoint, Route
from mrlclient.flow import embed
from mrlclient.operations import Answer, Policy
from mrlclient.packing import Packing
from mrlclient.plan import make_plan
from mrlclient.retry import RetryPolicy
from mrlclient.testing import ScriptedDriver

#: One model of each kind: the others differ from it in nothing that decides how a width is had.
KINDS = {
    (spec.native_dimensions, spec.server_dimensions, spec.server_cut_is_prefix, spec.recipe, spec.unit_length): spec
    for spec in catalogue().models.values()
    if spec.matryoshka
}


class Server:
    """A server that keeps its word: it cuts and normalises where it is asked, and else sends the full width."""

    packing = Packing(8)
    counts_tokens = False

    def __init__(self, spec):
        self.spec = spec
        rows = np.random.default_rng(spec.native_dimensions).normal(0.1, 1, (2, spec.native_dimensions))
        self.full = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def encode(self, batch):
        return batch.resolution.requested

    def answer(self, requested):
        cut = self.full[:, :requested]
        return Answer((cut / np.linalg.norm(cut, axis=1, keepdims=True)).astype(np.float32), tokens=2)

    def decode(self, reply, batch):
        return reply

    def expected(self, width):
        rows = self.full.astype(np.float64)
        if self.spec.recipe == "center_slice_l2":
            rows = rows - rows.mean(axis=1, keepdims=True)
        rows = rows[:, :width]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("spec", KINDS.values(), ids=lambda spec: spec.address)
def test_every_width(spec):
    server = Server(spec)
    driver = ScriptedDriver(server.answer)
    policy = Policy(RetryPolicy(1), 60.0, 1, "allow")
    route = Route([[Endpoint(server, "acme")]])

    def result_at(width):
        plan = make_plan(spec, server.packing, ["a", "b"], resolve(spec, width))
        return driver.run(embed(Call(plan, route, policy)))

    widest = result_at(None)
    for width in range(1, spec.native_dimensions + 1):
        asked, cut = result_at(width).embeddings, widest.at(width)
        expected = server.expected(width)
        np.testing.assert_allclose(np.linalg.norm(asked.astype(np.float64), axis=1), 1, atol=1e-6)
        assert np.abs(asked - expected).max() < 2e-6
        assert np.abs(cut - expected).max() < 2e-6
        assert asked.flags["C_CONTIGUOUS"]
        assert cut.flags["C_CONTIGUOUS"]
