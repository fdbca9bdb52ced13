"""Single exchanges with the vendors' own addresses, pinned to the letter: nothing more is sent, and nothing less."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from mrlclient import Embedder, OpenAI, Voyage

ROW = np.linspace(1, 2, 4096, dtype="<f4")


def answer(model, width, usage):
    row = ROW[:width] / np.linalg.norm(ROW[:width])
    data = [{"object": "embedding", "index": 0, "embedding": base64.b64encode(row.tobytes()).decode()}]
    return {"object": "list", "data": data, "model": model, "usage": usage}


CASES = [
    pytest.param(
        OpenAI, "text-embedding-3-small", {"dimensions": 300}, {"input_type": "query"},
        "https://api.openai.com/v1/embeddings",
        {"model": "text-embedding-3-small", "input": ["a"], "encoding_format": "base64", "dimensions": 300},
        300, id="openai at 300",
    ),
    pytest.param(
        OpenAI, "text-embedding-ada-002", {"dimensions": 1536}, {},
        "https://api.openai.com/v1/embeddings",
        {"model": "text-embedding-ada-002", "input": ["a"], "encoding_format": "base64"},
        1536, id="ada-002 at its only width",
    ),
    pytest.param(
        Voyage, "voyage-4", {"dimensions": 300}, {"input_type": "query"},
        "https://api.voyageai.com/v1/embeddings",
        {"model": "voyage-4", "input": ["a"], "encoding_format": "base64", "truncation": False,
         "input_type": "query", "output_dimension": 512},
        512, id="voyage at 300",
    ),
    pytest.param(
        Voyage, "voyage-4", {"truncate_input": True}, {},
        "https://api.voyageai.com/v1/embeddings",
        {"model": "voyage-4", "input": ["a"], "encoding_format": "base64", "truncation": True,
         "output_dimension": 2048},
        2048, id="voyage at its native width",
    ),
    pytest.param(
        Voyage, "voyage-law-2", {}, {"input_type": "document"},
        "https://api.voyageai.com/v1/embeddings",
        {"model": "voyage-law-2", "input": ["a"], "encoding_format": "base64", "truncation": False,
         "input_type": "document"},
        1024, id="voyage of one width",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "model", "options", "call", "url", "body", "width"), CASES)
def test_what_is_sent(provider, model, options, call, url, body, width, httpx2_mock):
    route = httpx2_mock.post(url).respond(json=answer(model, width, {"total_tokens": 2}))
    with Embedder(provider(model, api_key="sk-test"), on_narrow="allow", **options) as embedder:
        result = embedder.embed(["a"], **call)
    (exchange,) = route.calls
    assert json.loads(exchange.request.content) == body
    headers = {
        name: value for name, value in exchange.request.headers.items() if name not in ("host", "content-length")
    }
    assert headers == {
        "authorization": "Bearer sk-test",
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "mrlclient",
    }
    wanted = ROW[: embedder.dimensions]
    np.testing.assert_allclose(result[0], wanted / np.linalg.norm(wanted), rtol=1e-5)
    assert result.usage.tokens == 2
    assert result.usage.usd == pytest.approx(2e-6 * embedder.spec.usd_per_million_tokens)
