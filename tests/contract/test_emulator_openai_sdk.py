"""OpenAI's SDK on the emulator: it gets the oracle's vectors, and is refused as by the real service."""

import asyncio

import httpx2
import numpy as np
import openai
import pytest

from mrlclient.testing.emulator import FAULTS, Emulator, count_tokens, emulator_vector

SMALL = "text-embedding-3-small"
TEXTS = ["the cat sat", "on the mat", "and purred"]
FACES = ["sync", "async"]


@pytest.fixture(params=FACES)
def openai_embed(request, emulator):
    """`openai.OpenAI(...).embeddings.create(...)`, or its asynchronous twin."""

    def options(to, client):
        return {"base_url": to.openai_base_url, "api_key": to.openai_key, "max_retries": 0} | client

    def sync(to=emulator, client=None, **fields):
        with openai.OpenAI(**options(to, client or {})) as api:
            return api.embeddings.create(**{"model": SMALL, "input": TEXTS} | fields)

    async def asynchronous(to=emulator, client=None, **fields):
        async with openai.AsyncOpenAI(**options(to, client or {})) as api:
            return await api.embeddings.create(**{"model": SMALL, "input": TEXTS} | fields)

    return sync if request.param == "sync" else lambda *args, **fields: asyncio.run(asynchronous(*args, **fields))


def oracle(address, texts=TEXTS, **options):
    return np.stack([emulator_vector(address, text, **options) for text in texts])


def rows_of(response):
    return np.array([row.embedding for row in response.data])


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
@pytest.mark.parametrize(
    ("model", "dimensions"),
    [(SMALL, None), (SMALL, 1536), (SMALL, 100), ("text-embedding-3-large", 256), ("text-embedding-ada-002", None)],
)
def test_openai_gets_the_oracle_s_vectors(openai_embed, model, dimensions, encoding):
    width = {} if dimensions is None else {"dimensions": dimensions}
    response = openai_embed(model=model, user="someone", **width, **encoding)
    assert np.array_equal(rows_of(response), oracle(f"openai:{model}", dimensions=dimensions))
    assert [row.index for row in response.data] == [0, 1, 2]
    assert (response.model, response.object) == (model, "list")
    assert response.usage.prompt_tokens == response.usage.total_tokens == sum(map(count_tokens, TEXTS))


def test_openai_sends_what_is_said_of_it(openai_embed, emulator):
    openai_embed(dimensions=8)
    (request,) = emulator.requests
    assert list(request.body.items()) == [
        ("model", SMALL),
        ("input", TEXTS),
        ("dimensions", 8),
        ("encoding_format", "base64"),
    ]
    assert request.headers["x-stainless-retry-count"] == "0"


@pytest.mark.parametrize(
    ("given", "embedded"),
    [("one text", ["one text"]), ([1, 22, 3], ["1 22 3"]), ([[1, 22], [3]], ["1 22", "3"])],
    ids=["string", "ids", "lists of ids"],
)
def test_openai_takes_every_kind_of_input(openai_embed, given, embedded):
    assert np.array_equal(rows_of(openai_embed(input=given)), oracle(f"openai:{SMALL}", embedded))


OPENAI_REFUSALS = {
    "key": ({"client": {"api_key": "sk-wrong"}}, openai.AuthenticationError, "invalid_api_key"),
    "ada": ({"model": "text-embedding-ada-002", "dimensions": 1536}, openai.BadRequestError, None),
    "width": ({"dimensions": 1537}, openai.BadRequestError, None),
    "empty": ({"input": ["a", ""]}, openai.BadRequestError, None),
    "count": ({"input": ["a"] * 2049}, openai.BadRequestError, None),
    "sum": ({"input": ["a" * 4 * 8000] * 38}, openai.BadRequestError, "max_tokens_per_request"),
    "model": ({"model": "no-such-model"}, openai.NotFoundError, "model_not_found"),
    "extra": ({"extra_body": {"input_type": "query"}}, openai.BadRequestError, None),
}


@pytest.mark.parametrize(("fields", "error", "code"), OPENAI_REFUSALS.values(), ids=OPENAI_REFUSALS)
def test_openai_is_refused(openai_embed, fields, error, code):
    with pytest.raises(error) as refused:
        openai_embed(**fields)
    assert refused.value.code == code
    assert refused.value.body["message"] in str(refused.value)
    assert refused.value.request_id.startswith("req_")


OPENAI_FAULTS = {
    # name: (the SDK's error with one retry allowed, or None where the retry brings the vectors; requests made)
    "openai_rate_limited_121": (openai.RateLimitError, 1),
    "openai_x_should_retry_false": (openai.InternalServerError, 1),
    "openai_insufficient_quota": (None, 2),
    "openai_slow_down": (None, 2),
    "overloaded_529": (None, 2),
    "truncated_body": (None, 2),
    "reset_before_answer": (None, 2),
    "html_413": (openai.APIStatusError, 1),
    "count_zero": (ValueError, 1),
    "ignores_base64": (None, 1),
}


@pytest.mark.parametrize(
    ("name", "error", "requests"), [(n, *row) for n, row in OPENAI_FAULTS.items()], ids=OPENAI_FAULTS
)
def test_openai_meets_faults(openai_embed, emulator, monkeypatch, name, error, requests):
    for client in (openai.OpenAI, openai.AsyncOpenAI):
        monkeypatch.setattr(client, "_calculate_retry_timeout", lambda *_: 0.0)
    emulator.faults.append(FAULTS[name])
    if error is None:
        response = openai_embed(client={"max_retries": 1})
        assert np.array_equal(rows_of(response), oracle(f"openai:{SMALL}"))
    else:
        with pytest.raises(error):
            openai_embed(client={"max_retries": 1})
    assert len(emulator.requests) == requests


def test_openai_headers_and_limit(emulator):
    with (
        Emulator(requests_per_minute=1) as own,
        openai.OpenAI(base_url=own.openai_base_url, api_key=own.openai_key, max_retries=0) as api,
    ):
        raw = api.embeddings.with_raw_response.create(model=SMALL, input="a")
        assert raw.headers["x-ratelimit-remaining-requests"] == "0"
        assert len(raw.parse().data) == 1
        with pytest.raises(openai.RateLimitError) as refused:
            api.embeddings.create(model=SMALL, input="a")
    assert (refused.value.type, refused.value.code) == ("requests", "rate_limit_exceeded")
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("key", ["test-openai-key", "wrong"])
def test_azure(emulator, key):
    with openai.AzureOpenAI(azure_endpoint=emulator.url, api_key=key, api_version="2024-10-21", max_retries=0) as api:
        if key == "wrong":
            with pytest.raises(openai.AuthenticationError):
                api.embeddings.create(model=SMALL, input=TEXTS)
        else:
            response = api.embeddings.create(model=SMALL, input=TEXTS, dimensions=64)
            assert np.array_equal(rows_of(response), oracle(f"openai:{SMALL}", dimensions=64))
    (request,) = emulator.requests
    assert request.path == f"/openai/deployments/{SMALL}/embeddings?api-version=2024-10-21"
    assert request.headers["api-key"] == key
    assert (request.provider, "authorization" in request.headers) == ("openai", False)


def test_openai_keeps_its_connection(emulator):
    with httpx2.Client(trust_env=False) as transport:
        api = openai.OpenAI(base_url=emulator.openai_base_url, api_key=emulator.openai_key, http_client=transport)
        for _ in range(2):
            api.embeddings.create(model=SMALL, input="a")
    assert len({request.connection for request in emulator.requests}) == 1
