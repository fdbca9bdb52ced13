"""Very many texts in one stream: the memory stays what it was after the first."""

from __future__ import annotations

import gc
import os
import resource
from pathlib import Path

import anyio
import numpy as np
import pytest

from mrlclient import Embedder, ModelSpec, Provider
from mrlclient.operations import Answer
from mrlclient.plan import Packing

SPEC = ModelSpec(provider="acme", name="cheap", native_dimensions=8, matryoshka=True)


class Cheap(Provider):
    """Unit vectors along an axis that the text says."""

    name = "acme"

    @property
    def packing(self):
        return Packing(max_inputs=2048)

    def encode(self, batch):
        return batch.texts

    def send(self, request, timeout=None):
        return np.eye(8, dtype=np.float32)[[int(text) % 8 for text in request]]

    async def asend(self, request, timeout=None):
        await anyio.lowlevel.checkpoint()
        return self.send(request)

    def decode(self, reply, batch):
        return Answer(reply, tokens=len(reply))

    def close(self):
        pass


def resident():
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_stays_flat(backend):
    total = int(os.environ.get("STREAM_TEXTS", "200000"))
    memory, done = [], []

    def taken(chunk):
        done.append(len(chunk.texts))
        np.testing.assert_array_equal(chunk.embeddings.argmax(axis=1), [int(text) % 8 for text in chunk.texts])
        if sum(done) >= 10_000 and len(done) % 20 == 0:
            memory.append(resident())

    async def main():
        async for chunk in embedder.aembed_iter(map(str, range(total)), chunk_size=500):
            taken(chunk)

    with Embedder(Cheap(SPEC)) as embedder:
        if backend == "sync":
            for chunk in embedder.embed_iter(map(str, range(total)), chunk_size=500):
                taken(chunk)
        else:
            anyio.run(main, backend=backend)
    assert sum(done) == total
    assert max(memory) - memory[0] < 32 * 2**20, [bytes_ >> 20 for bytes_ in memory]
