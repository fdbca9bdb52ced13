"""The stand-in for the `openai` client: the same code, the real client and the stand-in, on any provider."""

from __future__ import annotations

import base64
import copy
import math
import pickle
from dataclasses import replace
from typing import Any

import anyio
import numpy as np
import pytest

pytest.importorskip("openai", reason="openai is not installed here")

import openai

import mrlclient
from mrlclient import ConfigurationError, Embedder, InputError, Limits, MRLError, OpenAI, Voyage, errors
from mrlclient.integrations._openai_errors import as_openai
from mrlclient.integrations.openai import MRLAsyncOpenAI, MRLOpenAI
from mrlclient.testing.emulator import FAULTS, Fault
from tests.integrations.refusing import refusing
from tests.integrations.searching import DEPTH, check_search
from tests.secrets.scanning import TEXT, check

NAME = "text-embedding-3-small"
LOCAL = "wordllama:l2-supercat-256"
TEXTS = ["Whales live in the sea.", "Bread needs flour.", "Whales live in the sea."]


@pytest.fixture(params=["sync", "asyncio", "trio"])
def face(request):
    return request.param


def create(face, models=None, *, input_type=None, **arguments):
    """One call by a stand-in of this face."""
    if face == "sync":
        with MRLOpenAI(models, input_type=input_type) as client:
            return client.embeddings.create(**arguments)

    async def main():
        async with MRLAsyncOpenAI(models, input_type=input_type) as client:
            return await client.embeddings.create(**arguments)

    return anyio.run(main, backend=face)


@pytest.fixture
def once(emulator):
    """An embedder of the emulator that asks once."""
    provider = OpenAI(NAME, api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    with Embedder(provider, max_attempts=1, limits=Limits(math.inf, math.inf)) as embedder:
        yield embedder


# ---- code that was written against the client -----------------------------------------------------------------------


def embed(client: openai.OpenAI, model: str, texts: list[str], **options: Any) -> np.ndarray:
    """As code has it that knows the client only."""
    response = client.embeddings.create(model=model, input=texts, **options)
    assert isinstance(response, openai.types.CreateEmbeddingResponse)
    assert response.usage.total_tokens == response.usage.prompt_tokens > 0
    return np.array([item.embedding for item in sorted(response.data, key=lambda item: item.index)])


async def aembed(client: openai.AsyncOpenAI, model: str, texts: list[str]) -> list[list[float]]:
    response = await client.embeddings.create(model=model, input=texts)
    return [item.embedding for item in response.data]


def test_the_same_code_on_the_client_and_on_the_stand_in(emulator, embedder):
    with openai.OpenAI(api_key=emulator.openai_key, base_url=emulator.openai_base_url) as client:
        rows = embed(client, NAME, TEXTS, dimensions=64)
    assert rows.shape == (3, 64)
    with MRLOpenAI({NAME: embedder}) as client:
        mine = embed(client, NAME, TEXTS, dimensions=64)
    np.testing.assert_allclose(mine, embedder.embed(TEXTS).embeddings, atol=1e-6)
    if embedder.spec.provider == "openai":
        np.testing.assert_allclose(mine, rows, atol=1e-6)


def test_the_same_async_code_on_the_client_and_on_the_stand_in(emulator, keys):
    async def main():
        async with openai.AsyncOpenAI() as client:
            rows = await aembed(client, NAME, TEXTS)
        async with MRLAsyncOpenAI({NAME: f"openai:{NAME}"}) as client:
            np.testing.assert_allclose(await aembed(client, NAME, TEXTS), rows, atol=1e-6)

    anyio.run(main)


def test_search(collection):
    with MRLOpenAI({NAME: LOCAL}) as client:
        documents = embed(client, NAME, collection.documents, dimensions=64)

        def search(query):
            order = np.argsort(-(documents @ embed(client, NAME, [query], dimensions=64)[0]))
            return [collection.documents[document] for document in order[:DEPTH]]

        check_search(search, collection)


def test_it_is_a_client():
    with MRLOpenAI() as client:
        assert isinstance(client, openai.OpenAI)
        assert client.max_retries == 0
    assert client.is_closed()
    assert issubclass(MRLAsyncOpenAI, openai.AsyncOpenAI)


def test_chroma_runs_on_it(emulator, keys, monkeypatch):
    """Chroma's own function for OpenAI, with its client exchanged."""
    functions = pytest.importorskip("chromadb.utils.embedding_functions", reason="chromadb is not installed here")
    function = functions.OpenAIEmbeddingFunction(model_name=f"{LOCAL}@64")
    function.client.close()
    with MRLOpenAI() as function.client, Embedder(LOCAL, dimensions=64) as embedder:
        np.testing.assert_allclose(function(TEXTS), embedder.embed(TEXTS).embeddings, atol=1e-6)
    assert not emulator.requests


def test_pydantic_ai_runs_on_it():
    """Pydantic AI's own model for OpenAI."""
    pytest.importorskip("pydantic_ai", reason="pydantic-ai-slim is not installed here")
    from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async def main():
        async with MRLAsyncOpenAI() as client:
            model = OpenAIEmbeddingModel(LOCAL, provider=OpenAIProvider(openai_client=client))
            return await model.embed(TEXTS, input_type="document", settings={"dimensions": 64})

    with Embedder(LOCAL, dimensions=64) as embedder:
        np.testing.assert_allclose(anyio.run(main).embeddings, embedder.embed(TEXTS).embeddings, atol=1e-6)


# ---- what goes in and what comes out --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_the_answer_is_the_clients(emulator, keys, face, options):
    arguments = {"input": TEXTS, "dimensions": 512} | options
    with openai.OpenAI() as client:
        theirs = client.embeddings.create(model=NAME, **arguments)
    ours = create(face, model=f"openai:{NAME}", **arguments)
    assert type(ours) is type(theirs)
    assert (ours.model, ours._request_id) == (f"openai:{NAME}", None)
    for mine, other in zip(ours.data, theirs.data, strict=True):
        assert (type(mine), mine.index, mine.object) == (type(other), other.index, other.object)
        assert type(mine.embedding) is type(other.embedding)
        if isinstance(mine.embedding, str):
            mine.embedding, other.embedding = (
                np.frombuffer(base64.b64decode(item.embedding), "<f4").tolist() for item in (mine, other)
            )
        assert {type(number) for number in mine.embedding} == {float}
        np.testing.assert_allclose(mine.embedding, other.embedding, atol=1e-6)
    # A text that stands twice is sent once.
    assert (ours.object, ours.usage.total_tokens) == ("list", emulator_tokens(emulator))
    assert ours.model_dump().keys() == theirs.model_dump().keys()


def emulator_tokens(emulator):
    return sum(len(text.encode()) // 4 + (len(text.encode()) % 4 > 0) for text in emulator.requests[-1].body["input"])


@pytest.mark.parametrize(
    "given", ["flour", ["flour"], ("flour",), iter(["flour"])], ids=["text", "list", "tuple", "iter"]
)
def test_texts(given):
    with MRLOpenAI() as client, Embedder(LOCAL) as embedder:
        [item] = client.embeddings.create(model=LOCAL, input=given).data
        np.testing.assert_allclose(item.embedding, embedder.embed(["flour"]).embeddings[0], atol=1e-6)


@pytest.mark.parametrize("given", [[1, 2], [[1, 2], [3]], np.array([1, 2])], ids=["one", "several", "numpy"])
def test_token_ids_are_refused(emulator, keys, face, given):
    with pytest.raises(InputError, match="check_embedding_ctx_length=False"):
        create(face, model=f"openai:{NAME}", input=given)
    assert not emulator.requests


def test_widths(face):
    def width(**arguments):
        return len(create(face, {"mine": LOCAL, "mine@8": LOCAL}, input="flour", **arguments).data[0].embedding)

    assert width(model="mine") == 256
    assert width(model="mine", dimensions=64) == 64
    assert width(model="mine", dimensions=None) == 256
    assert width(model="mine@128") == width(model=f"{LOCAL}@128") == 128
    assert width(model="mine@128", dimensions=128) == 128
    assert width(model="mine@8") == 256
    with pytest.raises(ConfigurationError, match="contradicts the width in the name"):
        width(model="mine@128", dimensions=64)
    with pytest.raises(openai.BadRequestError, match="wider than the model"):
        width(model="mine@300")
    # No width begins with a zero: that is a version.
    with pytest.raises(openai.NotFoundError, match="'mine@003' is neither an address nor a name in models"):
        width(model="mine@003")


@pytest.mark.parametrize("dimensions", [[64, 128], (64,), "64", 64.0, 0])
def test_a_width_is_one_number(face, dimensions):
    """Of several the client would get the widest, and nobody would know."""
    with pytest.raises(openai.BadRequestError, match="dimensions="):
        create(face, model=LOCAL, input="flour", dimensions=dimensions)


@pytest.mark.parametrize("model", [None, 3, [LOCAL]])
def test_a_model_is_a_name(face, model):
    with pytest.raises(openai.BadRequestError, match="model must be a name or an address, not"):
        create(face, model=model, input="flour")


def test_a_name_that_stands_for_nothing(face):
    """The code is not to be changed, so the message tells of the place where the names are."""
    with pytest.raises(openai.NotFoundError, match=r"MRLOpenAI\(\{'text-embedding-3-large': 'provider:model'\}\)"):
        create(face, {NAME: LOCAL}, model="text-embedding-3-large", input="flour")
    with pytest.raises(openai.NotFoundError, match="text-embedding-3-large"):
        create(face, {NAME: LOCAL}, model="openai:text-embedding-3-larg", input="flour")


def test_roles(emulator, face):
    voyage = Voyage("voyage-4", api_key=emulator.voyage_key, base_url=emulator.voyage_base_url)
    with Embedder(voyage) as embedder:
        for role in (None, "query"):
            create(face, {NAME: embedder}, input_type=role, model=NAME, input="flour")
            create(face, {NAME: embedder}, input_type=role, model=NAME, input="flour", extra_body={})
            body = {"input_type": "document"}
            create(face, {NAME: embedder}, input_type=role, model=NAME, input="flour", extra_body=body)
    roles = [request.body.get("input_type") for request in emulator.requests]
    assert roles == [None, None, "document", "query", "query", "document"]


LOST = [
    ({"user": "me"}, "user cannot be passed on"),
    ({"timeout": 3.0}, "deadline"),
    ({"timeout": None}, "deadline"),
    ({"extra_headers": {"x": "y"}}, "extra_headers cannot be passed on"),
    ({"extra_query": {"x": "y"}}, "extra_query cannot be passed on"),
    ({"extra_body": {"truncate": "END"}}, "extra_body may hold input_type"),
    ({"extra_body": {"input_type": "passage"}}, "'query' or 'document'"),
    ({"encoding_format": "int8"}, "'float' or 'base64'"),
]


@pytest.mark.parametrize(("argument", "why"), LOST, ids=str)
def test_nothing_is_dropped(emulator, keys, face, argument, why):
    with pytest.raises(ConfigurationError, match=why):
        create(face, model=f"openai:{NAME}", input="flour", **argument)
    assert not emulator.requests


def test_an_argument_that_the_client_does_not_have(face):
    with pytest.raises(TypeError, match="truncate"):
        create(face, model=LOCAL, input="flour", truncate=True)


def test_the_rest_of_the_client_is_refused():
    with MRLOpenAI() as client:
        for call in (
            client.models.list,
            lambda: client.chat.completions.create(model="gpt", messages=[]),
            lambda: client.with_options(timeout=1),
            client.copy,
            lambda: client.embeddings.with_raw_response.create(model=LOCAL, input="flour"),
        ):
            with pytest.raises(ConfigurationError):
                call()

    async def main():
        async with MRLAsyncOpenAI() as client:
            with pytest.raises(ConfigurationError):
                await client.chat.completions.create(model="gpt", messages=[])
            with pytest.raises(ConfigurationError):
                client.with_options(timeout=1)

    anyio.run(main)


def test_models_are_names():
    with pytest.raises(ConfigurationError, match="models must map"):
        MRLOpenAI(LOCAL)
    with pytest.raises(ConfigurationError, match="input_type"):
        MRLOpenAI(input_type="passage")
    with pytest.raises(mrlclient.UnknownModelError):
        MRLOpenAI({NAME: "openai:text-embedding-4"})


def test_whose_embedder_is_closed(face):
    with Embedder(LOCAL) as embedder:
        create(face, {NAME: embedder}, model=NAME, input="flour")
        embedder.embed(["flour"])
    client = MRLOpenAI({NAME: LOCAL})
    client.close()
    with pytest.raises(openai.OpenAIError, match="closed"):
        client.embeddings.create(model=NAME, input="flour")


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_a_refused_key(emulator, bad_key, face):
    with pytest.raises(openai.AuthenticationError) as caught:
        create(face, model=bad_key, input="a text of one's own")
    error = caught.value
    assert isinstance(error, mrlclient.AuthenticationError)
    assert (error.status, error.status_code, error.response.status_code) == (401, 401, 401)
    assert error.code == "invalid_api_key"
    assert error.request_id.startswith("req_")
    assert error.message == str(error)
    assert len(emulator.requests) == 1
    assert b"a text of one's own" not in pickle.dumps(error)
    assert "one's own" not in repr(vars(error)) + str(error.request.content)


FAULT_CLASSES = [
    (FAULTS["openai_rate_limited"], openai.RateLimitError, mrlclient.RateLimitError),
    (FAULTS["openai_insufficient_quota"], openai.RateLimitError, mrlclient.QuotaError),
    (FAULTS["openai_500"], openai.InternalServerError, mrlclient.ServerError),
    (FAULTS["openai_413"], openai.APIStatusError, mrlclient.BadRequestError),
    (FAULTS["count_minus_one"], openai.APIResponseValidationError, mrlclient.ResponseContractError),
    (FAULTS["closed_before_answer"], openai.APIConnectionError, mrlclient.ProviderConnectionError),
    (Fault(status=403, body={"error": {"message": "no"}}), openai.PermissionDeniedError, mrlclient.AuthenticationError),
    (Fault(status=404, body={"error": {"message": "no"}}), openai.NotFoundError, mrlclient.BadRequestError),
    (Fault(status=409, body={"error": {"message": "no"}}), openai.ConflictError, mrlclient.BadRequestError),
    (Fault(status=408, body={"error": {"message": "no"}}), openai.APITimeoutError, mrlclient.ProviderTimeoutError),
]


@pytest.mark.parametrize(("fault", "theirs", "ours"), FAULT_CLASSES, ids=lambda value: getattr(value, "__name__", None))
def test_errors_are_both(emulator, once, face, fault, theirs, ours):
    emulator.faults.append(replace(fault, times=100))
    with pytest.raises(theirs) as caught:
        create(face, {NAME: once}, model=NAME, input="flour")
    error = caught.value
    assert isinstance(error, ours)
    assert error.body is None
    if isinstance(error, openai.APIStatusError):
        assert error.status_code == error.response.status_code == error.status
        assert error.response.headers.get("retry-after") == (error.retry_after and f"{error.retry_after:g}")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert (other.status, other.code, other.retry_after) == (error.status, error.code, error.retry_after)


def test_the_client_does_not_ask_again(emulator, once, face):
    emulator.faults.append(replace(FAULTS["openai_500"], times=100))
    with pytest.raises(openai.InternalServerError):
        create(face, {NAME: once}, model=NAME, input="flour")
    assert len(emulator.requests) == 1


def test_every_error_of_ours_has_one_of_theirs():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MRLError)]
    assert len(kinds) > 20
    for kind in kinds:
        both = as_openai(kind("why"), "https://example.com")
        assert isinstance(both, kind)
        assert isinstance(both, openai.OpenAIError)
        assert str(both) == "why"
        assert isinstance(pickle.loads(pickle.dumps(both)), kind)


def test_an_error_holds_neither_text_nor_key(emulator, face):
    with refusing(emulator) as embedder:
        with pytest.raises(openai.BadRequestError) as caught:
            create(face, {NAME: embedder}, model=NAME, input=TEXT)
        check(caught.value, caught.value.request, caught.value.response, caught.value.request.content)
        with pytest.raises(openai.OpenAIError) as caught:
            create(face, {NAME: embedder}, model=NAME, input=TEXT, user="me")
        check(caught.value)
