"""What type checkers make of the public face. Checked by `make check`, never run."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from mrlclient import (
    Canary,
    Chunk,
    Embedder,
    EmbeddingResult,
    IndexContract,
    ModelSpec,
    Nomic,
    OpenAI,
    OpenAICompatible,
    Usage,
    Voyage,
    truncate_dimensions,
)
from mrlclient.quantize import Quantized
from mrlclient.search import Funnel, Hits, funnel

Matrix = NDArray[np.float32]

embedder = Embedder("openai:text-embedding-3-large", dimensions=256)
assert_type(embedder.embed_documents(["a"]), Matrix)
assert_type(embedder.embed_query("a"), Matrix)

assert_type(Embedder.from_config("mrlclient.toml", profile="a"), Embedder)
assert_type(Embedder.from_dict({"model": "openai:text-embedding-3-large"}), Embedder)
assert_type(embedder.to_dict(), dict[str, Any])
assert_type(embedder.widths, list[int])

result = embedder.embed(("a", "b"), dimensions=[64, 256], input_type="query")
assert_type(result, EmbeddingResult)
assert_type(result.at(64), Matrix)
assert_type(result[0], Matrix)
assert_type(result.usage, Usage)
assert_type(result.usage.usd, float | None)
assert_type([row for row in result], list[Matrix])  # noqa: C416
assert_type(truncate_dimensions(result.embeddings, 8), Matrix)
for chunk in embedder.embed_iter((text for text in "ab"), ordered=False, progress=print):
    assert_type(chunk, Chunk)
    assert_type(chunk.start, int)
    assert_type(chunk.texts, Sequence[str])
    assert_type(chunk.result, EmbeddingResult)
    assert_type(chunk.embeddings, Matrix)
assert_type(embedder.embed_iter(["a"], progress=True), Iterator[Chunk])
assert_type(Funnel(result, shortlist_dimensions=64).search(result.at(256), k=5), Hits)
assert_type(funnel(result[0], result, k=5).scores, Matrix)
Funnel(result, recipe="slice")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
as_array: NDArray[Any] = np.asarray(result)
codes = embedder.embed(["a"], dtype="int8", quantization="server").quantized
assert_type(codes, Quantized | None)
embedder.embed(["a"], quantization="voyage")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

assert_type(Canary("canary.json", every=3600).due(("openai:x",), 0.0), bool)
Canary("canary.json").due(("openai:x",))  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]

assert_type(embedder.contract(256), IndexContract)
assert_type(IndexContract.from_json(embedder.contract().to_json()).dimensions, int)
embedder.contract([256])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

spec = ModelSpec(provider="openai", name="mine", native_dimensions=8, matryoshka=False)
Embedder(spec)
Embedder(OpenAI(spec, api_key="k", base_url="https://example.com/v1"), on_narrow="error")
Embedder(Voyage("voyage-4", api_key="k"))
Embedder(OpenAICompatible("embed", native_dimensions=768, matryoshka=True, server="ollama"), dimensions=64)
Embedder(OpenAICompatible(spec, base_url="http://localhost:8080/v1", api_key_env="SERVER_KEY"))
Embedder(Nomic(model_path="folder"))

Embedder("openai:x", on_narrow="maybe")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Embedder("openai:x", dimension=3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
embedder.embed(["a"], input_type="passage")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
embedder.embed_iter(["a"], progress="yes")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
embedder.embed_query(["a"])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def arriving() -> AsyncIterator[str]:
    yield "a"


async def asynchronous() -> None:
    async with Embedder() as other:
        assert_type(await other.aembed(["a"]), EmbeddingResult)
        assert_type(other.aembed_iter(["a"]), AsyncIterator[Chunk])
        async for chunk in other.aembed_iter(arriving(), on_error="return", chunk_size=8):
            assert_type(chunk, Chunk)
        assert_type(await other.aembed_documents(["a"]), Matrix)
        assert_type(await other.aembed_query("a"), Matrix)
