"""M2: servers that ignore the width, or cut and do not scale. Cut here only where the model is Matryoshka."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from mrlclient import DimensionsMismatchError, ModelSpec, OpenAI
from mrlclient.testing import Emulator
from mrlclient.testing.emulator import FAULTS, Fault, edits
from tests.faults.matrix import Case, Injection, Site, check, named, of_emulator

_IGNORED = dataclasses.replace(FAULTS["ignores_dimensions"], times=99)
_UNSCALED = dataclasses.replace(FAULTS["not_normalized"], times=99)
_NARROWER = Fault(edit=edits.of_rows(edits.numbers(lambda vector: vector[:256])), times=99)
_NO_WIDTH_OF_IT = Fault(edit=edits.of_rows(edits.numbers(lambda vector: np.resize(vector, 700))), times=99)


def declared(fault: Fault, **fields: object) -> Injection:
    """A model that the user declares, behind the emulator's."""
    spec = ModelSpec(provider="openai", name="text-embedding-3-small", **fields)

    @contextmanager
    def inject(emulator: Emulator) -> Iterator[Site]:
        emulator.clear()
        emulator.faults.append(fault)
        provider = OpenAI(spec, api_key=emulator.openai_key, base_url=emulator.openai_base_url)
        yield Site(provider=provider, requests=lambda: len(emulator.requests))
        emulator.clear()

    return inject


def right(name: str, inject: Injection, dimensions: int | None = 512) -> Case:
    return Case(row="M2", name=name, inject=inject, expects=None, attempts=1, dimensions=dimensions)


def refused(name: str, inject: Injection, dimensions: int | None = 512) -> Case:
    return Case(row="M2", name=name, inject=inject, expects=DimensionsMismatchError, attempts=3, dimensions=dimensions)


CASES = [
    right("openai ignores dimensions", of_emulator(_IGNORED)),
    right("a compatible server ignores dimensions", of_emulator(_IGNORED, provider="openai-compatible")),
    right("voyage ignores output_dimension", of_emulator(_IGNORED, provider="voyage")),
    right("ignored, for a width the server has not", of_emulator(_IGNORED, provider="voyage"), dimensions=300),
    right("cut and not scaled", of_emulator(_UNSCALED)),
    refused("narrower than asked", of_emulator(_NARROWER)),
    refused("wider than asked, and no width of the model", of_emulator(_NO_WIDTH_OF_IT)),
    refused(
        "another width than the declared one", declared(Fault(times=99), native_dimensions=1024, matryoshka=False), None
    ),
    refused("narrower than the declared one", declared(Fault(times=99), native_dimensions=2048, matryoshka=True), None),
]


@pytest.mark.parametrize("case", CASES, ids=named(CASES))
def test_case(case, face, emulator):
    check(case, face, emulator)
