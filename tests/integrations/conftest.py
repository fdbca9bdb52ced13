"""What the integrations are tried with: real texts, and each provider as a profile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mrlclient import Embedder
from mrlclient.evaluate import Collection, docstrings
from tests.conftest import TINY_NOMIC

#: Documents that a search goes through: few enough for the slowest framework.
_DOCUMENTS = 200


@pytest.fixture(scope="session")
def collection() -> Collection:
    """The first queries of the standard library's docstrings, and their documents."""
    whole = docstrings()
    queries = [query for query, document in enumerate(whole.relevant) if document < _DOCUMENTS]
    return Collection(
        whole.name,
        [whole.queries[query] for query in queries],
        whole.documents[:_DOCUMENTS],
        [whole.relevant[query] for query in queries],
    )


#: Each provider as a profile's values, which hold no secret.
_PROVIDERS = {
    "wordllama": {"model": "wordllama:l2-supercat-256"},
    "openai": {"model": "openai:text-embedding-3-small"},
    "voyage": {"model": "voyage:voyage-4", "api_key_env": "VOYAGE_API_KEY"},
    "nomic": {"model": "nomic:nomic-embed-text-v1.5", "model_path": str(TINY_NOMIC)},
}


@pytest.fixture
def keys(emulator, monkeypatch) -> None:
    """The emulator's keys in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", emulator.openai_key)
    monkeypatch.setenv("OPENAI_BASE_URL", emulator.openai_base_url)
    monkeypatch.setenv("VOYAGE_API_KEY", emulator.voyage_key)


@pytest.fixture(params=_PROVIDERS)
def profile(request, emulator, keys) -> dict[str, Any]:
    """Each provider in turn."""
    if request.param == "nomic":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed here")
    values = dict(_PROVIDERS[request.param])
    return values | {"base_url": emulator.voyage_base_url} if request.param == "voyage" else values


@pytest.fixture
def embedder(profile) -> Iterator[Embedder]:
    """An embedder of each provider in turn, 64 wide where it may be cut so far without a warning."""
    with Embedder.from_dict(profile | {"dimensions": 64, "on_narrow": "allow"}) as made:
        yield made


@pytest.fixture
def bad_key(keys, monkeypatch) -> str:
    """The address of a model whose key the server refuses."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-refused")
    return "openai:text-embedding-3-small"
