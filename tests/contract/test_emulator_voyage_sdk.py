"""Voyage's SDK on the emulator: it gets the oracle's vectors, and is refused as by the real service."""

import asyncio
import threading

import numpy as np
import pytest
import requests
import voyageai
import voyageai.error
from voyageai.api_resources import api_requestor

from mrlclient.testing.emulator import FAULTS, count_tokens, emulator_vector

TEXTS = ["the cat sat", "on the mat", "and purred"]
FACES = ["sync", "async"]


@pytest.fixture(params=FACES)
def voyage_embed(request, emulator, monkeypatch):
    """`voyageai.Client(...).embed(...)`, or its asynchronous twin."""

    def options(to, client):
        return {"base_url": to.voyage_base_url, "api_key": to.voyage_key} | client

    def sync(to=emulator, client=None, **fields):
        return voyageai.Client(**options(to, client or {})).embed(**{"model": "voyage-4", "texts": TEXTS} | fields)

    async def asynchronous(to=emulator, client=None, **fields):
        api = voyageai.AsyncClient(**options(to, client or {}))
        return await api.embed(**{"model": "voyage-4", "texts": TEXTS} | fields)

    # The SDK keeps a session for each thread and never closes it: here it is one that is closed.
    with requests.Session() as session:
        monkeypatch.setattr(voyageai, "requestssession", session)
        monkeypatch.setattr(api_requestor, "_thread_context", threading.local())
        if request.param == "sync":
            yield sync
        else:
            yield lambda *args, **fields: asyncio.run(asynchronous(*args, **fields))


def oracle(address, texts=TEXTS, **options):
    return np.stack([emulator_vector(address, text, **options) for text in texts])


@pytest.mark.parametrize("input_type", [None, "query", "document"])
@pytest.mark.parametrize(
    ("model", "asked", "width"),
    [
        ("voyage-4", None, 1024),
        ("voyage-4-large", 2048, 2048),
        ("voyage-4-lite", 256, 256),
        ("voyage-law-2", None, 1024),
        ("voyage-3-lite", None, 512),
    ],
)
def test_voyage_gets_the_oracle_s_vectors(voyage_embed, model, asked, width, input_type):
    response = voyage_embed(model=model, input_type=input_type, output_dimension=asked)
    expected = oracle(f"voyage:{model}", dimensions=width, input_type=input_type)
    assert np.array_equal(np.array(response.embeddings), expected)
    prompt = {
        None: "",
        "query": "Represent the query for retrieving supporting documents: ",
        "document": "Represent the document for retrieval: ",
    }[input_type]
    assert response.total_tokens == sum(count_tokens(prompt + text) for text in TEXTS)


def test_voyage_sends_what_is_said_of_it(voyage_embed, emulator):
    voyage_embed(input_type="query", output_dimension=256)
    (request,) = emulator.requests
    assert request.body == {
        "input": TEXTS,
        "model": "voyage-4",
        "input_type": "query",
        "truncation": True,
        "output_dtype": None,
        "output_dimension": 256,
        "encoding_format": "base64",
    }


def test_voyage_output_types(voyage_embed):
    rows = oracle("voyage:voyage-4", dimensions=256)
    packed = np.packbits(rows > 0, axis=1)
    assert voyage_embed(output_dtype="ubinary", output_dimension=256).embeddings == packed.tolist()
    assert voyage_embed(output_dtype="binary", output_dimension=256).embeddings == (packed.astype(int) - 128).tolist()
    small = np.array(voyage_embed(output_dtype="int8", output_dimension=256).embeddings)
    positive = np.array(voyage_embed(output_dtype="uint8", output_dimension=256).embeddings)
    assert np.array_equal(small, positive - 128)
    cosines = np.vecdot(small, rows) / np.linalg.norm(small, axis=1)
    assert cosines.min() > 0.999


def test_voyage_truncates_in_silence(voyage_embed):
    whole = "word " * 6400
    assert count_tokens(whole * 4) == 32_000
    cut = voyage_embed(texts=[whole * 4 + "and more that is never read"])
    assert cut.total_tokens == 32_000
    assert np.array_equal(cut.embeddings[0], emulator_vector("voyage:voyage-4", whole * 4, dimensions=1024))


VOYAGE_REFUSALS = {
    "key": ({"client": {"api_key": "wrong"}}, voyageai.error.AuthenticationError, "Unauthorized"),
    "width": ({"output_dimension": 384}, voyageai.error.InvalidRequestError, "[256, 512, 1024, 2048]"),
    "law": ({"model": "voyage-law-2", "output_dimension": 1024}, voyageai.error.InvalidRequestError, "law-2"),
    "empty": ({"texts": ["a", ""]}, voyageai.error.InvalidRequestError, "empty strings"),
    "count": ({"texts": ["a"] * 1001}, voyageai.error.InvalidRequestError, "1000"),
    "model": ({"model": "no-such-model"}, voyageai.error.InvalidRequestError, "no-such-model"),
    "window": ({"texts": ["a" * 4 * 32001], "truncation": False}, voyageai.error.InvalidRequestError, "index 0"),
    "batch": (
        {"model": "voyage-4-large", "texts": ["a" * 4 * 30001] * 4},
        voyageai.error.InvalidRequestError,
        "has 120004 tokens",
    ),
    "retired": ({"model": "voyage-01"}, voyageai.error.APIError, "voyage-4"),
    "body before key": (
        {"client": {"api_key": "wrong"}, "output_dimension": 384},
        voyageai.error.InvalidRequestError,
        "384",
    ),
}


@pytest.mark.parametrize(("fields", "error", "text"), VOYAGE_REFUSALS.values(), ids=VOYAGE_REFUSALS)
def test_voyage_is_refused(voyage_embed, fields, error, text):
    with pytest.raises(error) as refused:
        voyage_embed(**fields)
    assert type(refused.value) is error
    assert text in str(refused.value)


VOYAGE_FAULTS = {
    "voyage_rate_limited": voyageai.error.RateLimitError,
    "voyage_500": voyageai.error.ServerError,
    "bad_gateway_502": voyageai.error.ServiceUnavailableError,
    "unavailable_503": voyageai.error.ServiceUnavailableError,
    "gateway_timeout_504": voyageai.error.ServiceUnavailableError,
    "overloaded_529": AttributeError,
    "html_413": voyageai.error.APIError,
    "voyage_400_without_detail": voyageai.error.APIError,
    "closed_before_answer": voyageai.error.APIConnectionError,
}


@pytest.mark.parametrize(("name", "error"), VOYAGE_FAULTS.items(), ids=VOYAGE_FAULTS)
def test_voyage_meets_faults(voyage_embed, emulator, name, error):
    emulator.faults.append(FAULTS[name])
    with pytest.raises(error) as failed:
        voyage_embed()
    assert type(failed.value) is error
    assert len(emulator.requests) == 1


def test_voyage_trusts_the_order(voyage_embed, emulator):
    emulator.faults.append(FAULTS["order_reversed"])
    assert np.array_equal(np.array(voyage_embed().embeddings), oracle("voyage:voyage-4", dimensions=1024)[::-1])


def test_voyage_opens_a_connection_for_each_asynchronous_call(emulator):
    async def calls():
        api = voyageai.AsyncClient(base_url=emulator.voyage_base_url, api_key=emulator.voyage_key)
        for _ in range(3):
            await api.embed(["a"], model="voyage-4")

    asyncio.run(calls())
    assert len({request.connection for request in emulator.requests}) == 3
