"""The emulator refuses as the services do: with their statuses and texts, in their order, at their borders."""

import json

import pytest

from mrlclient.testing.emulator import Emulator, count_tokens
from tests.contract.test_emulator import MODELS, WIDTH_FIELD, asking, http_client  # noqa: F401 - fixtures

# Refusals: every documented row.

ADA = "text-embedding-ada-002"
BAD_REQUEST = {"type": "invalid_request_error", "param": None, "code": None}
LONG = "a" * 4 * 8193

OPENAI_REFUSALS = {
    "dimensions on ada": (
        {"model": ADA, "dimensions": 1536},
        400,
        BAD_REQUEST | {"message": "This model does not support specifying dimensions."},
    ),
    "too long in a list": (
        {"input": ["a"] * 8 + [LONG]},
        400,
        BAD_REQUEST | {"message": "Invalid 'input[8]': maximum input length is 8192 tokens."},
    ),
    "too long alone": (
        {"input": LONG},
        400,
        BAD_REQUEST | {"message": "Invalid 'input': maximum context length is 8192 tokens."},
    ),
    "too many token ids": (
        {"input": [[1] * 8193]},
        400,
        BAD_REQUEST | {"message": "Invalid 'input[0]': maximum input length is 8192 tokens."},
    ),
    "too many tokens in all": (
        {"input": ["a" * 4 * 8057] * 38},
        400,
        {
            "message": "Requested 306166 tokens, max 300000 tokens per request",
            "type": "max_tokens_per_request",
            "param": None,
            "code": "max_tokens_per_request",
        },
    ),
    "too many inputs": (
        {"input": ["a"] * 2049},
        400,
        BAD_REQUEST | {"message": "Invalid 'input': array length must be 2048 or less"},
    ),
    "empty string": ({"input": ""}, 400, BAD_REQUEST | {"message": "input cannot be an empty string"}),
    "empty string in a list": ({"input": ["a", ""]}, 400, BAD_REQUEST | {"message": "input cannot be an empty string"}),
}

# Here only the status, and at most a fragment or a code, is known.
OPENAI_STATUSES = {
    "too wide": ({"dimensions": 1537}, 400, "Must be less than or equal to 1536"),
    "zero wide": ({"dimensions": 0}, 400, ""),
    "unknown field": ({"input_type": "query"}, 400, "input_type"),
    "dimensions not a number": ({"dimensions": "8"}, 400, "dimensions"),
    "encoding_format": ({"encoding_format": "int8"}, 400, "encoding_format"),
    "empty list": ({"input": []}, 400, "input"),
    "mixed list": ({"input": ["a", 1]}, 400, "input"),
    "empty ids": ({"input": [[]]}, 400, "input"),
    "unknown model": ({"model": "no-such-model"}, 404, "no-such-model"),
}


@pytest.mark.parametrize(("fields", "status", "error"), OPENAI_REFUSALS.values(), ids=OPENAI_REFUSALS)
def test_openai_refuses_as_documented(ask, fields, status, error):
    response = ask("openai", **fields)
    assert (response.status_code, response.json()) == (status, {"error": error})


@pytest.mark.parametrize(("fields", "status", "fragment"), OPENAI_STATUSES.values(), ids=OPENAI_STATUSES)
def test_openai_refuses(ask, fields, status, fragment):
    response = ask("openai", **fields)
    error = response.json()["error"]
    assert response.status_code == status
    assert fragment in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


OPENING = "The request body is not valid JSON, or some arguments were not specified properly. In particular, "
MISSING = "Your request body was missing one or more required arguments."
LONG_FOR_VOYAGE = "a" * 4 * 32001

VOYAGE_REFUSALS = {
    "bad width": (
        {"model": "voyage-3-large", "output_dimension": 300},
        OPENING + "Value '300' supplied for argument 'output_dimension' is not valid -- accepted values for "
        "'voyage-3-large' are [256, 512, 1024, 2048].",
    ),
    "unknown field": ({"dimensions": 256}, OPENING + "Argument 'dimensions' is not supported by our API"),
    "encoding_format": ({"encoding_format": "float"}, "Value 'float' supplied for encoding_format is not allowed"),
    "empty string": (
        {"input": ["a", ""]},
        OPENING + "Error for argument 'input': Value error, Input cannot contain empty strings or empty lists",
    ),
    "empty list": (
        {"input": []},
        OPENING + "Error for argument 'input': Value error, Input cannot contain empty strings or empty lists",
    ),
    "missing": ({"input": None}, f"{OPENING}{MISSING}; {MISSING}"),
    "too long": (
        {"input": ["a", LONG_FOR_VOYAGE], "truncation": False},
        "Request to model 'voyage-4-large' failed. The example at index 1 in your batch has too many tokens and does "
        "not fit into the model's context window of 32000 tokens. Please lower the number of tokens … or use "
        "truncation.",
    ),
}

# Here only the status is known.
VOYAGE_STATUSES = {
    "width of a model with one width": ({"model": "voyage-law-2", "output_dimension": 1024}, 400),
    "type of a model without types": ({"model": "voyage-law-2", "output_dtype": "int8"}, 400),
    "unknown type": ({"output_dtype": "float32"}, 400),
    "unknown input type": ({"input_type": "clustering"}, 400),
    "true for a width": ({"output_dimension": True}, 400),
    "not strings": ({"input": ["a", 1]}, 400),
    "too many": ({"input": ["a"] * 1001}, 400),
    "unknown model": ({"model": "no-such-model"}, 400),
    "unknown model with a width": ({"model": "no-such-model", "output_dimension": 3}, 400),
}


@pytest.mark.parametrize(("fields", "detail"), VOYAGE_REFUSALS.values(), ids=VOYAGE_REFUSALS)
def test_voyage_refuses_as_documented(ask, fields, detail):
    response = ask("voyage", **fields)
    assert (response.status_code, response.json()) == (400, {"detail": detail})


@pytest.mark.parametrize(("fields", "status"), VOYAGE_STATUSES.values(), ids=VOYAGE_STATUSES)
def test_voyage_refuses(ask, fields, status):
    response = ask("voyage", **fields)
    assert response.status_code == status
    assert set(response.json()) == {"detail"}


def test_voyage_names_the_code_of_a_batch_too_large(ask):
    response = ask("voyage", input=["a" * 4 * 30000] * 4 + ["a" * 4 * 6899])
    assert (response.status_code, response.json()) == (
        400,
        {
            "detail": "Request to model 'voyage-4-large' failed. The max allowed tokens per submitted batch is 120000. "
            "Your batch has 126899 tokens after truncation. Please lower the number of tokens in the batch.",
            "error_code": "TOO_MANY_TOKENS_IN_BATCH",
        },
    )


def test_a_body_that_is_not_json(ask):
    assert ask("openai", raw=b"{").status_code == 400
    response = ask("voyage", raw=b"{")
    assert response.json() == {"detail": OPENING + "Error for argument '0': JSON decode error"}


@pytest.mark.parametrize("key", ["", "sk-wrong"])
def test_keys(ask, key):
    openai, voyage = ask("openai", key=key), ask("voyage", key=key)
    assert (openai.status_code, voyage.status_code) == (401, 401)
    assert voyage.json() == {"detail": "Unauthorized"}
    if key:
        assert openai.json()["error"]["code"] == "invalid_api_key"
        assert openai.json()["error"]["message"].startswith("Incorrect API key provided: sk-")
        assert key not in openai.text


def test_own_keys_and_retired_models(ask):
    with Emulator(openai_keys=["one", "two"], voyage_keys=["three"], retired={"voyage-2": "voyage-4-lite"}) as own:
        assert (own.openai_key, own.voyage_key) == ("one", "three")
        assert ask("openai", to=own, key="two").status_code == 200
        assert ask("openai", to=own, key="test-openai-key").status_code == 401
        retired = ask("voyage", to=own, model="voyage-2")
        assert retired.status_code == 410
        assert "voyage-4-lite" in retired.json()["detail"]
        assert ask("voyage", to=own, model="voyage-01").status_code == 400
    assert ask("voyage", model="voyage-01").status_code == 410


@pytest.mark.parametrize("path", ["/embedding", "/embeddings/x", "/../v2/embeddings"])
@pytest.mark.parametrize("provider", MODELS)
def test_other_paths_and_methods(ask, http, emulator, provider, path):
    assert ask(provider, path=path).status_code == 404
    assert http.get(f"{emulator.url}/{provider}/v1/embeddings").status_code == 405
    assert http.get(emulator.url).status_code == 404
    assert [request.provider for request in emulator.requests] == [provider, provider, ""]


# The order of the checks: a request with this defect and all that follow is refused for this one.

OPENAI_ORDER = {
    "key": "Incorrect API key",
    "field": "extra",
    "empty": "empty string",
    "count": "array length",
    "width": "less than or equal",
    "length": "input[38]",
    "sum": "max 300000 tokens",
    "rate": "Rate limit",
}
VOYAGE_ORDER = {
    "missing": MISSING,
    "field": "Argument 'extra'",
    "encoding": "encoding_format",
    "dtype": "output_dtype",
    "width": "output_dimension",
    "empty": "empty strings",
    "count": "1000",
    "key": "Unauthorized",
    "length": "index 5",
    "sum": "submitted batch",
    "rate": "billing page",
}
ORDERS = [
    pytest.param(provider, set(list(order)[place:]), text, id=f"{provider}-{defect}")
    for provider, order in {"openai": OPENAI_ORDER, "voyage": VOYAGE_ORDER}.items()
    for place, (defect, text) in enumerate(order.items())
]


def defective(provider, defects):
    """A body with the defects, and its key (None for the right one)."""
    long, many = {"openai": (8192, 2049), "voyage": (32000, 1001)}[provider]
    copies = {"openai": 38, "voyage": 5}[provider]
    texts = ["a" * 4 * (long if "sum" in defects else 1)] * copies
    texts += ["a" * 4 * (long + 1)] * ("length" in defects) + [""] * ("empty" in defects)
    texts += ["a"] * (many if "count" in defects else 0)
    body = {"model": MODELS[provider], "input": texts}
    body |= {"extra": 1} if "field" in defects else {}
    body |= {WIDTH_FIELD[provider]: 5000} if "width" in defects else {}
    body |= {"output_dtype": "int1"} if "dtype" in defects else {}
    body |= {"encoding_format": "float"} if "encoding" in defects else {}
    body |= {"truncation": False} if provider == "voyage" else {}
    if "missing" in defects:
        del body["input"]
    return body, "wrong" if "key" in defects else None


@pytest.fixture(scope="module")
def full():
    """An emulator whose limit is used up by the first request, and whose clock stands."""
    with Emulator(requests_per_minute=1, clock=lambda: 0.0) as emulator:
        yield emulator


@pytest.mark.parametrize(("provider", "defects", "text"), ORDERS)
def test_order_of_checks(ask, full, provider, defects, text):
    ask(provider, to=full)
    body, key = defective(provider, defects)
    response = ask(provider, body, to=full, key=key)
    assert text in json.loads(response.text).get("detail", response.text)
    assert (response.status_code == 429) == (defects == {"rate"})


def test_voyage_checks_key_then_retirement_then_tokens(ask):
    long = {"model": "voyage-01", "input": [LONG_FOR_VOYAGE], "truncation": False}
    assert ask("voyage", long, key="wrong").status_code == 401
    assert ask("voyage", long).status_code == 410


# Borders: (provider, fields that just pass, fields that just do not)

PROMPT_TOKENS = count_tokens("Represent the document for retrieval: ")
BORDERS = {
    "inputs": ("openai", {"input": ["a"] * 2048}, {"input": ["a"] * 2049}),
    "ids": ("openai", {"input": [1] * 2048}, {"input": [1] * 2049}),
    "input tokens": ("openai", {"input": "é" * 2 * 8192}, {"input": "é" * 2 * 8192 + "a"}),
    "request tokens": (
        "openai",
        {"input": ["a" * 4 * 7500] * 40},
        {"input": ["a" * 4 * 7500] * 39 + ["a" * 4 * 7500 + "a"]},
    ),
    "width": ("openai", {"dimensions": 1536}, {"dimensions": 1537}),
    "least width": ("openai", {"dimensions": 1}, {"dimensions": 0}),
    "blank": ("openai", {"input": " "}, {"input": ""}),
    "voyage inputs": ("voyage", {"input": ["a"] * 1000}, {"input": ["a"] * 1001}),
    "voyage window": (
        "voyage",
        {"input": "a" * 4 * 32000, "truncation": False},
        {"input": "a" * 4 * 32000 + "a", "truncation": False},
    ),
    "voyage batch": ("voyage", {"input": ["a" * 4 * 30000] * 4}, {"input": ["a" * 4 * 30000] * 4 + ["a"]}),
    "voyage prompts count": (
        "voyage",
        {"input": "a" * 4 * (32000 - PROMPT_TOKENS), "input_type": "document", "truncation": False},
        {"input": "a" * 4 * (32001 - PROMPT_TOKENS), "input_type": "document", "truncation": False},
    ),
}


@pytest.mark.parametrize(("provider", "passes", "fails"), BORDERS.values(), ids=BORDERS)
def test_borders(ask, provider, passes, fails):
    assert ask(provider, **passes, encoding_format="base64").status_code == 200
    assert ask(provider, **fails, encoding_format="base64").status_code == 400
