"""A server that repeats the text in its refusals, to see what of it an error holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mrlclient import Embedder, OpenAI
from mrlclient.testing import Emulator
from mrlclient.testing.emulator import Fault
from tests.secrets.scanning import KEY, TEXT


@contextmanager
def refusing(emulator: Emulator) -> Iterator[Embedder]:
    """An embedder of that server."""
    emulator.faults.append(Fault(status=400, body={"error": {"message": TEXT}}, times=99))
    provider = OpenAI("text-embedding-3-small", api_key=KEY, base_url=emulator.openai_base_url)
    with Embedder(provider, max_attempts=1) as embedder:
        yield embedder
