import dataclasses
import pickle

import pytest

from mrlclient import (
    BadRequestError,
    ConfigurationError,
    Embedder,
    MissingCredentialsError,
    ModelSpec,
    OpenAICompatible,
    ServerError,
    UnknownModelError,
    catalogue,
)
from mrlclient.dimensions import resolve
from mrlclient.plan import Batch
from mrlclient.providers._exchange import Reply

URL = "http://localhost:8080/v1"
SPEC = ModelSpec(provider="openai-compatible", name="embed", native_dimensions=256, matryoshka=True)


def test_a_name_with_its_width_is_a_model():
    provider = OpenAICompatible("nomic-embed-text:v1.5", native_dimensions=768, matryoshka=False, base_url=URL)
    assert provider.spec == ModelSpec(
        provider="openai-compatible", name="nomic-embed-text:v1.5", native_dimensions=768, matryoshka=False
    )
    assert provider.origin == URL
    assert (provider.spec.address, provider.account[2]) == (
        "openai-compatible:nomic-embed-text:v1.5",
        "nomic-embed-text:v1.5",
    )
    address = OpenAICompatible("openai-compatible:embed", native_dimensions=256, matryoshka=True, base_url=URL)
    assert address.spec == SPEC


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("embed", {"base_url": URL}, "native_dimensions= and matryoshka= with 'embed'"),
        ("embed", {"base_url": URL, "native_dimensions": 256}, "native_dimensions= and matryoshka="),
        ("embed", {"base_url": URL, "matryoshka": True}, "native_dimensions= and matryoshka="),
        ("embed", {"base_url": URL, "native_dimensions": 0, "matryoshka": True}, "positive integer"),
        ("", {"base_url": URL, "native_dimensions": 256, "matryoshka": True}, "name must be a name"),
        (SPEC, {"base_url": URL, "native_dimensions": 256}, "leave them out"),
        (SPEC, {"base_url": URL, "matryoshka": True}, "leave them out"),
        (7, {"base_url": URL}, "not int"),
        (SPEC, {}, "Pass base_url="),
        (SPEC, {"server": "tei"}, "Pass base_url="),
        (SPEC, {"server": "olama"}, "Did you mean 'ollama'"),
        (SPEC, {"server": "xyz"}, "Known are ollama, tei"),
        (SPEC, {"server": 7}, "no server 7"),
        (SPEC, {"base_url": "localhost:8080"}, "not an http"),
        (SPEC, {"base_url": URL, "api_key": "k", "api_key_env": "K"}, "not both"),
        (SPEC, {"base_url": URL, "timeout": 0}, "timeout"),
        (SPEC, {"base_url": URL, "count_tokens": 7}, "count_tokens"),
        (SPEC, {"base_url": URL, "client": object()}, "key and base_url"),
        (SPEC, {"client": object()}, r"openai.OpenAI or"),
        ("openai:text-embedding-3-small", {"base_url": URL}, "native_dimensions="),
        (catalogue().models["openai:text-embedding-3-small"], {"base_url": URL}, "not a model of the provider"),
    ],
)
def test_what_is_not_whole_is_refused(model, options, says):
    with pytest.raises(ConfigurationError, match=says):
        OpenAICompatible(model, **options)


def test_an_address_alone_says_what_to_do():
    with pytest.raises(UnknownModelError, match=r"OpenAICompatible\('nomic-embed-text:v1', base_url=.* profile"):
        Embedder("openai-compatible:nomic-embed-text:v1")
    with pytest.raises(ConfigurationError, match="Pass base_url="):
        Embedder(SPEC)


@pytest.mark.parametrize("name", catalogue().servers)
def test_a_known_server_is_found_by_its_name(name):
    server = catalogue().servers[name]
    if server.base_url is not None:
        assert OpenAICompatible(SPEC, server=name).origin == server.base_url
    elsewhere = OpenAICompatible(SPEC, server=name, base_url="http://gpu-1:9000/v1")
    assert elsewhere.origin == "http://gpu-1:9000/v1"
    assert elsewhere.truncates_input == bool(server.truncates_input)
    assert elsewhere.packing.max_inputs == (server.max_inputs or 32)
    assert elsewhere.assumed_quota is None


@pytest.mark.parametrize(
    ("changes", "server", "widths"),
    [
        ({}, None, None),
        ({}, "ollama", "any"),
        ({}, "infinity", None),
        ({"matryoshka": False}, "ollama", None),
        ({"recipe": "center_slice_l2"}, "ollama", None),
        ({"server_dimensions": (64, 256)}, "ollama", (64, 256)),
        ({"server_dimensions": "any"}, None, "any"),
        ({"server_dimensions": "any"}, "llama-cpp", "any"),
    ],
)
def test_who_is_trusted_with_the_width(changes, server, widths):
    spec = dataclasses.replace(SPEC, **changes)
    provider = OpenAICompatible(spec, server=server, base_url=URL)
    assert provider.spec.server_dimensions == widths
    assert provider.spec.server_cut_is_prefix == (widths == "any" and "server_dimensions" not in changes)
    assert provider.declared == spec


def test_keys_go_encrypted_or_nowhere(monkeypatch):
    assert OpenAICompatible(SPEC, base_url="http://gpu-1/v1").origin == "http://gpu-1/v1"
    with pytest.raises(ConfigurationError, match="unencrypted to gpu-1"):
        OpenAICompatible(SPEC, base_url="http://gpu-1/v1", api_key="k")
    monkeypatch.setenv("SERVER_KEY", "k")
    with pytest.raises(ConfigurationError, match="unencrypted to gpu-1"):
        OpenAICompatible(SPEC, base_url="http://gpu-1/v1", api_key_env="SERVER_KEY")
    with pytest.raises(MissingCredentialsError, match="is empty"):
        OpenAICompatible(SPEC, base_url=URL, api_key="")


def test_another_process_has_the_same(monkeypatch):
    monkeypatch.setenv("SERVER_KEY", "k")
    for options in ({"server": "ollama"}, {"base_url": URL, "api_key_env": "SERVER_KEY", "timeout": 5.0}):
        provider = OpenAICompatible(SPEC, **options)
        copy = pickle.loads(pickle.dumps(provider))
        assert (copy.spec, copy.origin, copy._settings) == (provider.spec, provider.origin, provider._settings)
        assert copy.declared == SPEC
    with pytest.raises(ConfigurationError, match="Keep it in the variable that api_key_env= names"):
        pickle.dumps(OpenAICompatible(SPEC, base_url=URL, api_key="k"))


def test_texts_are_cut_only_where_the_server_does_it():
    assert Embedder(OpenAICompatible(SPEC, server="ollama"), truncate_input=True)
    for options in ({"server": "llama-cpp"}, {"base_url": URL}):
        with pytest.raises(ConfigurationError, match="truncate_input"):
            Embedder(OpenAICompatible(SPEC, **options), truncate_input=True)


def error_of(status, body, **options):
    provider = OpenAICompatible(dataclasses.replace(SPEC, **options), base_url=URL)
    batch = Batch(["a", "b"], range(2), resolve(provider.spec, None), None, False)
    return provider._error(Reply(status, {}, body), batch)


@pytest.mark.parametrize(
    ("status", "body", "said", "code"),
    [
        (400, {"error": {"message": "No.", "type": "t", "param": None, "code": None}}, "No.", "t"),
        (400, {"error": {"message": "No.", "type": "t", "param": None, "code": 400}}, "No.", "t"),
        (404, {"error": "model 'x' not found"}, "model 'x' not found", None),
        (424, {"error": "inference failed", "error_type": "backend"}, "inference failed", "backend"),
        (429, {"message": "Model is overloaded", "code": 429, "type": "overloaded"}, "overloaded", "overloaded"),
        (400, {"object": "error", "message": "No.", "type": "BadRequestError", "param": None, "code": 400}, "No.",
         "BadRequestError"),
        (401, {"detail": "Unauthorized"}, "Unauthorized", None),
        (422, {"detail": [{"loc": ["body", "input"], "msg": "too long", "input": "secret"}]}, "too long", None),
        (500, {"error": {"code": 500, "message": "boom", "type": "server_error"}}, "boom", "server_error"),
    ],
)  # fmt: skip
def test_the_shapes_of_errors(status, body, said, code):
    error = error_of(status, body)
    assert said in str(error)
    assert error.code == code
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"error": None},
        {"error": []},
        {"error": 7},
        {"message": None},
        {"detail": {}},
        {"detail": [7, {}, {"loc": []}, {"loc": [0]}, {"msg": 7}, {"loc": "x"}]},
        {"error": {"message": {"a": 1}, "code": [1], "type": {}}},
    ],
)
def test_any_body_is_survived(body):
    assert type(error_of(500, body)) is ServerError


@pytest.mark.parametrize(
    "message",
    [
        'Model "embed" does not support matryoshka representation, changing output dimensions will lead to poor '
        "results.",
        'Model "embed" only supports [32, 64] matryoshka dimensions, use other output dimensions will lead to poor '
        "results.",
        "Dimensions must be greater than 0",
        "`dimensions` should be smaller than the maximum embedding dimension.",
        "matryoshka_dim=64 is not in a valid range",
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_width_that_is_refused_is_no_texts_fault(message, status):
    error = error_of(status, {"error": {"message": message, "code": status}}, server_dimensions="any")
    assert type(error) is BadRequestError
    assert error.scope == "request"
    assert str(error).endswith(
        "Leave server= and server_dimensions out: the full width is then asked for, and cut here"
    )
    assert "Leave" not in str(error_of(status, {"error": {"message": message}}))


def test_refusals_of_other_things():
    assert error_of(422, {"detail": [{"loc": ["body", "dimensions"], "msg": "no int"}]}).scope == "request"
    assert error_of(422, {"detail": [{"loc": ["body", "input"], "msg": "no"}]}).scope == "text"
    assert error_of(400, {"message": "`inputs` cannot be empty", "code": 400, "type": "Empty"}).scope == "text"
    assert error_of(422, {"message": "batch size 64 > maximum allowed batch size 32", "code": 422}).scope == "size"
    long = error_of(500, {"error": {"code": 500, "message": "input is too large to process. increase the batch size"}})
    assert (type(long), long.scope, long.retryable) == (BadRequestError, "text", False)
