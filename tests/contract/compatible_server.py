"""A server with OpenAI's `/embeddings` that treats the width as one of the known servers does."""

from __future__ import annotations

import numpy as np

from mrlclient import Embedder, ModelSpec, OpenAICompatible, truncate_dimensions
from mrlclient.testing.emulator import emulator_vector
from mrlclient.testing.emulator.faults import Fault
from mrlclient.testing.emulator.records import Answer
from mrlclient.testing.emulator.vectors import encode
from mrlclient.testing.emulator.wire import LoopbackServer
from tests.faults.matrix import TEXTS, embed, waits_skipped

#: A Matryoshka model of 256 dimensions that the emulator has vectors for.
MODEL = "wordllama:l2-supercat-256"

SPEC = ModelSpec(provider="openai-compatible", name="embed", native_dimensions=256, matryoshka=True)

#: What vLLM says of a model that its configuration does not call Matryoshka.
NOT_MATRYOSHKA = (
    'Model "embed" does not support matryoshka representation, changing output dimensions will lead to poor results.'
)


def full_vectors(texts):
    """(n, 256) float32, unit rows."""
    return np.stack([emulator_vector(MODEL, text) for text in texts])


class CompatibleServer:
    """Serves `vectors` on a free port of 127.0.0.1. A context manager.

    Args:
        vectors: The full vectors of some texts, as the server itself computes them.
        dimensions: What it does with the parameter; see `mrlclient.servers.Server`.
        pads_to: A width that all vectors are filled up to with zeros.
        base64: Whether it heeds `encoding_format`.
        model: The name in its answers; None for the one that was asked for, "" for none.
        refuse: Called with the texts of each request: the status and the body of an error, or None.
        key: The key that it asks for; None for none.

    Attributes:
        requests: Bodies of the requests, in the order of their arrival.
        authorizations: The header `Authorization` of each; None where there was none.
    """

    def __init__(
        self,
        vectors=full_vectors,
        *,
        dimensions="honours",
        pads_to=0,
        base64=True,
        model=None,
        refuse=lambda texts: None,
        key=None,
    ):
        self._vectors, self._cut, self._pads_to = vectors, dimensions, pads_to
        self._base64, self._model, self._refuse, self._key = base64, model, refuse, key
        self.requests, self.authorizations = [], []

    def __enter__(self):
        self._server = LoopbackServer(self._respond)
        self.url = f"http://127.0.0.1:{self._server.port}/v1"
        return self

    def __exit__(self, *_):
        self._server.close()

    def _respond(self, request):
        assert (request.method, request.path) == ("POST", "/v1/embeddings")
        self.requests.append(request.body)
        self.authorizations.append(request.headers.get("authorization"))
        status, body = self._answer(request)
        answer = Answer(status, {}, body)
        answer.write_body()
        return answer, Fault()

    def _answer(self, request):
        body = request.body
        if self._key is not None and request.bearer != self._key:
            return 401, {"error": {"message": "Unauthorized", "type": "auth", "param": None, "code": 401}}
        texts, width = body["input"], body.get("dimensions")
        if (refused := self._refuse(texts)) is not None:
            return refused
        if width is not None and self._cut == "refuses":
            return 400, {"object": "error", "message": NOT_MATRYOSHKA, "type": "BadRequestError", "code": 400}
        rows = self._rows(self._vectors(texts), width)
        embeddings = encode(rows.astype("<f4"), as_base64=self._base64 and body.get("encoding_format") == "base64")
        name = body["model"] if self._model is None else self._model
        return 200, {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(embeddings)],
            **({"model": name} if name else {}),
            "usage": {"prompt_tokens": len(texts), "total_tokens": len(texts)},
        }

    def _rows(self, rows, width):
        if width is not None and self._cut != "ignores":
            cut = rows[:, :width]
            if self._cut != "slices_without_l2":
                cut = cut / np.linalg.norm(cut, axis=1, keepdims=True)
            rows = cut
        wanted = max(self._pads_to, width or 0 if self._cut == "pads" else 0)
        return np.pad(rows, ((0, 0), (0, max(wanted - rows.shape[1], 0))))


def rows_of(at, face="sync", dimensions=64, /, **options):
    """The rows of `TEXTS` from a server at which `SPEC` is."""
    with Embedder(OpenAICompatible(SPEC, base_url=at.url, **options), max_attempts=4) as embedder, waits_skipped():
        return embed(embedder, face, TEXTS, dimensions)


def expected(dimensions=64):
    """The rows that are right."""
    return truncate_dimensions(full_vectors(TEXTS), dimensions)
