"""A third party's provider, found by a real entry point of a real distribution."""

import sys

import numpy as np
import pytest

from mrlclient import ConfigurationError, Embedder, UnknownModelError, UnknownProviderError
from mrlclient.registry import ENTRY_POINT_GROUP, provider_class

PLUGIN = """
import numpy as np
from mrlclient import ModelSpec, Provider
from mrlclient.errors import UnknownModelError
from mrlclient.operations import Answer
from mrlclient.packing import Packing

class Acme(Provider):
    name = "acme"
    packing = Packing(2)

    @classmethod
    def find_spec(cls, model):
        if model != "small":
            raise UnknownModelError(f"acme has no model {model!r}", suggestions=["acme:small"])
        return ModelSpec(provider="acme", name=model, native_dimensions=4, matryoshka=True)

    def encode(self, batch):
        return list(batch.texts)

    def send(self, request, timeout=None):
        return [[len(text), 1, 2, 3] for text in request]

    async def asend(self, request, timeout=None):
        return self.send(request, timeout)

    def decode(self, reply, batch):
        return Answer(np.array(reply, dtype=np.float32))

    def close(self):
        pass

NotAProvider = dict
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "acme_mrl.py").write_text(PLUGIN)
    info = tmp_path / "acme_mrl-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-mrl\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\nacme = acme_mrl:Acme\nbroken = acme_mrl:NotAProvider\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("acme_mrl", None)


@pytest.mark.usefixtures("plugin")
def test_a_third_partys_provider():
    assert "acme_mrl" not in sys.modules
    with Embedder("acme:small", dimensions=2) as embedder:
        rows = embedder.embed(["a", "abc", "ab"])
    np.testing.assert_allclose(rows[1], np.array([3, 1]) / 10**0.5, rtol=1e-6)
    assert rows.usage.tokens is None
    with pytest.raises(UnknownModelError, match="'large'"):
        Embedder("acme:large")


@pytest.mark.usefixtures("plugin")
def test_what_is_no_provider_is_refused():
    with pytest.raises(ConfigurationError, match="not a subclass"):
        provider_class("broken")
    with pytest.raises(UnknownProviderError, match="acme"):
        provider_class("acmee")


@pytest.mark.parametrize("wrong", [7, ["openai:text-embedding-3-small"], b"openai:x"])
def test_what_is_no_model_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=type(wrong).__name__):
        Embedder(wrong)


@pytest.mark.parametrize("options", [{"max_attempts": 0}, {"max_concurrency": True}, {"on_narrow": "maybe"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Embedder(**options)
