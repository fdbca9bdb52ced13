"""M1: an answer of another model than the one asked for: vectors of another space. Refused, and not tried again."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from mrlclient import Embedder, ModelMismatchError, OpenAI, ResponseContractError, Voyage, catalogue
from mrlclient.testing.emulator import FAULTS, Fault
from tests.faults.matrix import TEXTS, Case, check, embed, expected_rows, named, of_emulator
from tests.faults.server import KEY, http, right_payload, serving

MODEL = "text-embedding-3-small"


def answering_as(name: object) -> Fault:
    return Fault(edit=lambda payload: payload | {"model": name}, times=99)


def nameless() -> Fault:
    return Fault(edit=lambda payload: {key: value for key, value in payload.items() if key != "model"}, times=99)


def renamed(name: str, fault: Fault, provider: str = "openai") -> Case:
    return Case(
        row="M1",
        name=f"{name}, {provider}",
        inject=of_emulator(fault, provider=provider),
        expects=ModelMismatchError,
        attempts=1,
    )


_LASTING = dataclasses.replace(FAULTS["renamed_model"], times=99)

CASES = [
    renamed("another model", _LASTING),
    renamed("another model", _LASTING, "voyage"),
    renamed("another model", _LASTING, "openai-compatible"),
    renamed("a larger one", answering_as("text-embedding-3-large")),
    renamed("an older one", answering_as("text-embedding-ada-002")),
    renamed("a name that only begins alike", answering_as("text-embedding-3-small-preview")),
    renamed("a sibling", answering_as("voyage-4-lite"), "voyage"),
    Case(row="M1", name="the same", inject=of_emulator(answering_as(MODEL)), expects=None, attempts=1),
    Case(row="M1", name="no name", inject=of_emulator(nameless()), expects=None, attempts=1),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    outcome = check(case, face, emulator)
    if case.expects is not None:
        assert isinstance(outcome.error, ResponseContractError)
        assert not outcome.error.retryable


def test_names_that_count_as_the_same(face, emulator):
    """Those that the catalogue lists, for every hosted model of it that the emulator has."""
    listed = [spec for spec in catalogue().models.values() if spec.answers_as and spec.provider in ("openai", "voyage")]
    for spec in listed:
        key, url = emulator.openai_key, emulator.openai_base_url
        if spec.provider == "voyage":
            key, url = emulator.voyage_key, emulator.voyage_base_url
        kind = OpenAI if spec.provider == "openai" else Voyage
        for name in spec.answers_as:
            emulator.clear()
            emulator.faults.append(answering_as(name))
            with Embedder(kind(spec, api_key=key, base_url=url)) as embedder:
                embed(embedder, face, ["a"])


@pytest.mark.parametrize("name", ["my-deployment", MODEL])
def test_a_deployment_may_answer_with_either_name(name, face):
    def script(connection):
        while request := connection.read_request():
            connection.send(http(json.dumps(right_payload(request) | {"model": name}).encode()))

    with serving(script) as server:
        provider = OpenAI(MODEL, deployment="my-deployment", api_key=KEY, base_url=server.url)
        with Embedder(provider, max_attempts=1) as embedder:
            rows = embed(embedder, face, TEXTS)
    np.testing.assert_allclose(rows, expected_rows(f"openai:{MODEL}", TEXTS, 1536), atol=3e-4)


def test_a_deployment_of_another_model(face):
    def script(connection):
        while request := connection.read_request():
            connection.send(http(json.dumps(right_payload(request) | {"model": "text-embedding-3-large"}).encode()))

    with serving(script) as server:
        provider = OpenAI(MODEL, deployment="my-deployment", api_key=KEY, base_url=server.url)
        with Embedder(provider) as embedder, pytest.raises(ModelMismatchError):
            embed(embedder, face, TEXTS)
