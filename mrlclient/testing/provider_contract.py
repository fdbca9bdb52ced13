"""What every provider must keep, as a pytest class: subclass it, say how to make the provider, and run it.

::

    class TestAcme(ProviderContract):
        def make_provider(self) -> Provider:
            return Acme("acme-embed")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import numpy as np
import pytest

from mrlclient.embedder import Embedder
from mrlclient.errors import (
    ConfigurationError,
    DimensionsError,
    DimensionsOutOfRangeError,
    InputError,
    NotMatryoshkaError,
)
from mrlclient.models import InputType
from mrlclient.providers.base import Provider
from mrlclient.result import EmbeddingResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEXTS = [
    "Matryoshka embeddings nest: each prefix is an embedding.",
    "The quick brown fox jumps over the lazy dog.",
    "Zażółć gęślą jaźń, 東京, 🙂 and NFC é next to NFD é.",
    "x",
    "The quick brown fox jumps over the lazy dog.",
    "def add(a, b):\n    return a + b",
]

Call = Callable[..., Any]


class ProviderContract:
    """The contract.

    Attributes:
        faces: Ways to call that the provider supports: `"sync"`, `"asyncio"`, `"trio"`.
        secrets: Keys that must not show up anywhere.
        tolerance: How far equal vectors may differ, absolutely: a server's own rounding.
    """

    faces: ClassVar[Sequence[str]] = ("sync", "asyncio", "trio")
    secrets: ClassVar[Sequence[str]] = ()
    tolerance: ClassVar[float] = 1e-5

    def make_provider(self) -> Provider:
        """A fresh provider."""
        raise NotImplementedError

    def oracle(self, texts: Sequence[str], dimensions: int, input_type: InputType | None) -> NDArray[np.float32] | None:
        """What the provider must answer, computed by other means: (n, dimensions). None: no such means."""
        return None

    def requests_seen(self) -> int | None:
        """How many requests have reached the server so far; None where there is no server to ask."""
        return None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each test that takes `call` once for each face."""
        if "call" in metafunc.fixturenames:
            metafunc.parametrize("call", self.faces, indirect=True)

    @pytest.fixture
    def call(self, request: pytest.FixtureRequest) -> Call:
        """Calls a method of an embedder through one face: `call(embedder, "embed", texts, dimensions=64)`."""
        return _CALLS[request.param]

    def _embedder(self, **options: Any) -> Embedder:
        return Embedder(self.make_provider(), on_narrow="allow", **options)

    def test_rows(self, call: Call) -> None:
        """One unit row for each text, in order, whatever else is in the batch; as the oracle has it."""
        embedder = self._embedder()
        result: EmbeddingResult = call(embedder, "embed", TEXTS)
        spec = embedder.spec
        assert result.embeddings.shape == (len(TEXTS), spec.native_dimensions)
        _assert_unit_rows(result.embeddings)
        assert np.array_equal(result.embeddings[1], result.embeddings[4])
        for i, text in enumerate(TEXTS):
            alone = call(embedder, "embed", [text])
            np.testing.assert_allclose(result[i], alone[0], atol=self.tolerance)
        expected = self.oracle(TEXTS, spec.native_dimensions, result.input_type)
        if expected is not None:
            np.testing.assert_allclose(result.embeddings, expected, atol=self.tolerance)
        embedder.close()

    def test_result_says_what_it_is(self, call: Call) -> None:
        """The result names the model, its space and the cut, counts tokens, and is usable as an array."""
        embedder = self._embedder()
        result: EmbeddingResult = call(embedder, "embed", TEXTS, input_type="query")
        spec = embedder.spec
        assert (result.provider, result.model, result.space) == (spec.provider, spec.name, spec.space)
        assert (result.input_type, result.reduction) == ("query", "native")
        assert result.dimensions == spec.native_dimensions == embedder.dimensions
        assert result.usage.tokens is not None
        assert result.usage.tokens > 0
        price = spec.usd_per_million_tokens
        assert result.usage.usd == (None if price is None else result.usage.tokens * price / 1e6)
        assert len(result) == len(list(result)) == len(TEXTS)
        assert np.array_equal(np.asarray(result), result.embeddings)
        assert np.asarray(result, dtype=np.float64).dtype == np.float64
        embedder.close()

    def test_documents_and_query(self, call: Call) -> None:
        """`embed_documents` gives a matrix and `embed_query` a vector, each for its role."""
        embedder = self._embedder()
        documents = call(embedder, "embed_documents", TEXTS)
        query = call(embedder, "embed_query", TEXTS[0])
        _assert_unit_rows(documents)
        _assert_unit_rows(query[None, :])
        assert documents.shape == (len(TEXTS), embedder.dimensions)
        expected = self.oracle([TEXTS[0]], embedder.dimensions, "query")
        if expected is not None:
            np.testing.assert_allclose(query, expected[0], atol=self.tolerance)
        embedder.close()

    def test_every_width(self, call: Call) -> None:
        """Any width from one call, equal to what `at` cuts from a wider one."""
        embedder = self._embedder()
        spec = embedder.spec
        if not spec.matryoshka:
            pytest.skip("one width only")
        full: EmbeddingResult = call(embedder, "embed", TEXTS)
        for width in _sample_widths(spec.native_dimensions):
            result: EmbeddingResult = call(embedder, "embed", TEXTS, dimensions=width)
            assert result.embeddings.shape == (len(TEXTS), width)
            _assert_unit_rows(result.embeddings)
            _assert_unit_rows(full.at(width))
            np.testing.assert_allclose(result.embeddings, full.at(width), atol=max(self.tolerance, 1e-6))
            assert result.reduction == ("native" if width == spec.native_dimensions else result.reduction)
            assert (result.reduction == "native") == (width == spec.native_dimensions)
        embedder.close()

    def test_several_widths_take_one_request(self, call: Call) -> None:
        """A sequence of widths costs what its widest costs."""
        embedder = self._embedder()
        native = embedder.spec.native_dimensions
        widths = [native // 4, native] if embedder.spec.matryoshka else [native]
        before = self.requests_seen()
        result: EmbeddingResult = call(embedder, "embed", TEXTS, dimensions=widths)
        assert result.dimensions == native
        assert [result.at(d).shape[1] for d in widths] == widths
        if before is not None:
            assert self.requests_seen() == before + 1
        embedder.close()

    def test_no_texts(self, call: Call) -> None:
        """No texts are no request and an empty matrix."""
        embedder = self._embedder()
        before = self.requests_seen()
        result: EmbeddingResult = call(embedder, "embed", [])
        assert result.embeddings.shape == (0, embedder.dimensions)
        assert result.usage.tokens == 0
        assert self.requests_seen() == before
        embedder.close()

    def test_widths_refused(self) -> None:
        """What is no width of the model is refused before anything is sent."""
        embedder = self._embedder()
        spec, before = embedder.spec, self.requests_seen()
        for wrong in (0, -1, True, 2.0, "64", spec.native_dimensions + 1, []):
            with pytest.raises(DimensionsError):
                embedder.embed(TEXTS, dimensions=wrong)  # type: ignore[arg-type]
        if not spec.matryoshka:
            with pytest.raises(NotMatryoshkaError, match=str(spec.native_dimensions)):
                embedder.embed(TEXTS, dimensions=spec.native_dimensions // 2)
        else:
            with pytest.raises(DimensionsOutOfRangeError):
                embedder.embed(TEXTS, dimensions=8).at(9)
            before = None if before is None else before + 1
        assert self.requests_seen() == before
        embedder.close()

    def test_texts_refused(self, call: Call) -> None:
        """What cannot be embedded is refused with its index, without showing it, before anything is sent."""
        embedder = self._embedder()
        before = self.requests_seen()
        for wrong in ("", " \n", "canary \ud800", None, 7, b"canary"):
            with pytest.raises(InputError) as caught:
                call(embedder, "embed", ["fine", wrong, "fine"])
            assert caught.value.index == 1
            assert "canary" not in str(caught.value)
        with pytest.raises(InputError):
            call(embedder, "embed", "one text")
        assert self.requests_seen() == before
        embedder.close()

    def test_roles_refused(self, call: Call) -> None:
        """A role or a task that the model does not know is refused."""
        embedder = self._embedder()
        for wrong in ({"input_type": "passage"}, {"task": "poetry"}, {"input_type": "query", "task": "clustering"}):
            with pytest.raises(ConfigurationError):
                call(embedder, "embed", TEXTS, **wrong)
        embedder.close()

    def test_closed(self, call: Call) -> None:
        """A closed embedder says so; closing twice is no error."""
        embedder = self._embedder()
        embedder.close()
        embedder.close()
        with pytest.raises(ConfigurationError, match="closed"):
            call(embedder, "embed", TEXTS)

    def test_lifecycle_async(self) -> None:
        """`async with` closes; loops one after the other, and sync calls inside a running loop, all work."""
        sync_works = "sync" in self.faces
        embedder = self._embedder()

        async def twice() -> tuple[Any, Any]:
            inner = embedder.embed_query(TEXTS[0]) if sync_works else None
            return inner, await embedder.aembed_query(TEXTS[0])

        answers = [anyio.run(twice, backend=face) for face in ("asyncio", "trio", "asyncio") if face in self.faces]
        vectors = [vector for pair in answers for vector in pair if vector is not None]
        for vector in vectors:
            np.testing.assert_allclose(vector, vectors[0], atol=self.tolerance)

        async def managed() -> None:
            async with self._embedder() as other:
                await other.aembed_query(TEXTS[0])
            with pytest.raises(ConfigurationError, match="closed"):
                await other.aembed_query(TEXTS[0])

        if vectors:
            asyncio.run(managed())
        embedder.close()

    def test_secrets_do_not_show(self) -> None:
        """No key in what is printed of the provider."""
        provider = self.make_provider()
        shown = f"{provider!r} {Embedder(provider)!r} {vars(provider)!r}"
        for secret in self.secrets:
            assert secret not in shown
        provider.close()


def _call_sync(embedder: Embedder, method: str, *args: Any, **options: Any) -> Any:
    return getattr(embedder, method)(*args, **options)


def _call_async(backend: str) -> Call:
    def call(embedder: Embedder, method: str, *args: Any, **options: Any) -> Any:
        async def run() -> Any:
            return await getattr(embedder, "a" + method)(*args, **options)

        return anyio.run(run, backend=backend)

    return call


_CALLS: dict[str, Call] = {"sync": _call_sync, "asyncio": _call_async("asyncio"), "trio": _call_async("trio")}


def _sample_widths(native: int) -> list[int]:
    """The narrowest, the widest, powers of two, and some that no server offers."""
    widths = {1, 2, 7, 100, native // 3, native - 1, native, *(1 << k for k in range(5, 12))}
    return sorted(width for width in widths if 1 <= width <= native)


def _assert_unit_rows(vectors: NDArray[np.float32]) -> None:
    assert vectors.dtype == np.float32
    assert vectors.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1.0, atol=1e-5)
