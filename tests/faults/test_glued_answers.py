"""N1: an answer nobody asked for, in one piece with one that was asked for. It must not answer the next call."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from mrlclient import Embedder
from tests.faults.matrix import TEXTS, expected_rows, openai_at
from tests.faults.server import MODEL, answer_well, http, right_answer, serving


@pytest.mark.parametrize("glued", ["vectors", "an error"])
def test_an_answer_nobody_asked_for_is_not_the_next_ones(glued, face):
    """RFC 9112, 9.2: such data is no answer, and its connection is not used again."""

    def script(connection):
        answer = right_answer(connection.read_request())
        connection.send(answer + (answer if glued == "vectors" else http(b"{}", 401)))
        answer_well(connection)

    with serving(script) as server, Embedder(openai_at(server.url)) as embedder:
        if face == "sync":
            rows = [embedder.embed_query(text) for text in TEXTS]
        else:

            async def calls():
                return [await embedder.aembed_query(text) for text in TEXTS]

            rows = anyio.run(calls)
    np.testing.assert_allclose(rows, expected_rows(MODEL, TEXTS, 1536), atol=3e-4)
