"""What servers do with a width, found out by asking them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mrlclient import (
    ConfigurationError,
    DimensionsMismatchError,
    Embedder,
    ModelSpec,
    Nomic,
    OpenAI,
    OpenAICompatible,
    ProviderConnectionError,
    ServerError,
    Voyage,
)
from mrlclient.evaluate import probe_server
from mrlclient.testing.emulator import emulator_vector
from tests.conftest import TINY_NOMIC
from tests.contract.compatible_server import MODEL, SPEC, CompatibleServer, full_vectors

#: What nobody declared to be Matryoshka is asked all the same.
UNKNOWN = replace(SPEC, matryoshka=False)


def asked(server, spec=UNKNOWN, dimensions=None, **options):
    with Embedder(OpenAICompatible(spec, base_url=server.url, **options)) as embedder:
        return probe_server(embedder, dimensions)


@pytest.mark.parametrize(
    ("behaviour", "received", "length"),
    [("honours", 64, 1.0), ("ignores", 256, 1.0), ("slices_without_l2", 64, None), ("refuses", None, None)],
)
@pytest.mark.parametrize("spec", [UNKNOWN, SPEC])
def test_each_behaviour_is_told(behaviour, received, length, spec):
    with CompatibleServer(dimensions=behaviour) as server:
        found = asked(server, spec, 64)
        assert [request.get("dimensions") for request in server.requests] == [None, None, 64]
        assert found.requests == len(server.requests)
    assert (found.behaviour, found.dimensions, found.received) == (behaviour, 64, received)
    assert (found.origin, found.model) == (server.url, SPEC.address)
    assert found.noise < 1e-6
    if length is not None:
        assert found.length == pytest.approx(length, abs=1e-5)
        assert found.distance < 1e-5
    if behaviour == "slices_without_l2":
        assert 0.1 < found.length < 0.95
    values = json.loads(json.dumps(found.to_dict()))
    assert values["behaviour"] == behaviour
    assert values["advice"]


def test_padding_is_told():
    with CompatibleServer(dimensions="honours", pads_to=0) as plain:
        assert asked(plain, dimensions=64).behaviour == "honours"

    class Padding(CompatibleServer):
        def _rows(self, rows, width):
            cut = super()._rows(rows, width)
            return np.pad(cut, ((0, 0), (0, 256 - cut.shape[1])))

    with Padding() as server:
        assert asked(server, dimensions=64).behaviour == "pads"
    # Other providers' answers are looked at here.
    with Padding() as server:
        spec = replace(UNKNOWN, provider="openai")
        with Embedder(OpenAI(spec, api_key="k", base_url=server.url)) as embedder:
            found = probe_server(embedder, 64)
    assert (found.behaviour, found.received) == ("pads", 256)


def test_vectors_of_another_space_differ():
    class Other(CompatibleServer):
        def _rows(self, rows, width):
            return super()._rows(rows if width is None else rows[:, ::-1], width)

    with Other() as server:
        found = asked(server, dimensions=64)
    assert found.behaviour == "differs"
    assert found.distance > 0.5

    class AnotherWidth(CompatibleServer):
        def _rows(self, rows, width):
            return super()._rows(rows, width and width + 1)

    with AnotherWidth() as server:
        found = asked(server, dimensions=64)
    assert (found.behaviour, found.received, found.distance) == ("differs", 65, None)


def test_a_server_that_does_not_repeat_itself():
    chance = np.random.default_rng(0)

    def jittered(texts):
        rows = full_vectors(texts) + chance.normal(0, 0.001, (len(texts), 256)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    with CompatibleServer(jittered) as server:
        found = asked(server)
    assert found.behaviour == "honours"
    assert 0.01 < found.noise < 0.05
    assert found.dimensions == 128


def test_a_cut_of_nomic_without_its_mean_differs():
    """A server that slices what Nomic pools is another model than the one whose mean goes first."""
    spec = replace(Nomic(model_path=TINY_NOMIC).spec, provider="openai-compatible", name="embed", native_dimensions=256)
    shifted = 0.3 * np.ones(256, dtype=np.float32)

    def pooled(texts):
        rows = full_vectors(texts) + shifted
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    with CompatibleServer(pooled) as server:
        assert asked(server, spec).behaviour == "differs"
        assert asked(server).behaviour == "honours"


def test_the_emulators_of_openai_and_voyage(emulator):
    with Embedder(
        OpenAI("text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    ) as e:
        found = probe_server(e, 100)
    assert (found.behaviour, found.received) == ("honours", 100)
    with Embedder(
        OpenAI("text-embedding-ada-002", api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    ) as e:
        assert probe_server(e).behaviour == "refuses"
    with Embedder(Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)) as e:
        found = probe_server(e)
        # The widest that the model's row lists below the full one.
        assert (found.behaviour, found.dimensions) == ("honours", 1024)
        assert probe_server(e, 300).behaviour == "refuses"


def test_a_failure_is_no_behaviour():
    def fails(texts, state=[]):  # noqa: B006
        state.append(len(texts))
        return (503, {"error": {"message": "busy"}}) if len(state) == 3 else None

    with CompatibleServer(refuse=fails) as server, pytest.raises(ServerError):
        asked(server)
    assert len(server.requests) == 3
    gone = server.url
    with (
        Embedder(OpenAICompatible(UNKNOWN, base_url=gone)) as embedder,
        pytest.raises(ProviderConnectionError) as caught,
    ):
        probe_server(embedder)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_wrong_declaration_is_told():
    with CompatibleServer() as server, pytest.raises(DimensionsMismatchError, match="256 dimensions, and is declared"):
        asked(server, replace(UNKNOWN, native_dimensions=512))


def test_where_there_is_nothing_to_ask():
    with Embedder(MODEL) as embedder, pytest.raises(ConfigurationError, match="computed here"):
        probe_server(embedder)
    with CompatibleServer() as server:
        for width in (256, 300, 0, True, 64.0):
            with pytest.raises(ConfigurationError, match="below the full one"):
                asked(server, dimensions=width)
        assert server.requests == []


def test_a_third_partys_local_model_has_no_server():
    spec = ModelSpec(provider="openai", name="m", native_dimensions=8, matryoshka=False)
    assert emulator_vector(MODEL, "a").shape == (256,)
    with (
        Embedder(OpenAI(spec, api_key="k", base_url="http://127.0.0.1:9/v1")) as embedder,
        pytest.raises(ProviderConnectionError),
    ):
        probe_server(embedder)
