"""What every provider must do, as a pytest class: subclass it, define `make_provider`, and run it.

::

    class TestAcme(ProviderContract):
        def make_provider(self) -> Provider:
            return Acme("acme-embed")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import anyio.from_thread
import numpy as np
import pytest

from mrlclient.dimensions import resolve
from mrlclient.drivers import AsyncDriver, SyncDriver
from mrlclient.embedder import Embedder
from mrlclient.errors import (
    ConfigurationError,
    DimensionsError,
    DimensionsOutOfRangeError,
    InputError,
    NotMatryoshkaError,
)
from mrlclient.models import InputType
from mrlclient.operations import Answer, Flow, Send
from mrlclient.plan import Batch, make_plan
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
        faces: The ways of calling that the provider supports: `"sync"`, `"asyncio"`, `"trio"`.
        secrets: Keys that must not be shown anywhere.
        tolerance: The largest absolute difference of equal vectors, for a server's own rounding.
        one_loop: Whether a provider is bound to the first event loop that uses it, as some official clients are.
    """

    faces: ClassVar[Sequence[str]] = ("sync", "asyncio", "trio")
    secrets: ClassVar[Sequence[str]] = ()
    tolerance: ClassVar[float] = 1e-5
    one_loop: ClassVar[bool] = False

    def make_provider(self) -> Provider:
        """A fresh provider."""
        raise NotImplementedError

    def oracle(self, texts: Sequence[str], dimensions: int, input_type: InputType | None) -> NDArray[np.float32] | None:
        """The expected vectors, computed by other means: (n, dimensions). None if there are no other means."""
        return None

    async def cleanup(self) -> None:
        """Closes, in the test's own event loop, what `make_provider` opened and the provider does not close."""

    def requests_seen(self) -> Sequence[object] | None:
        """The requests that the server has seen so far, for the messages of failures; None without a server."""
        return None

    def _seen_since(self, before: Sequence[object] | None, *, expected: int) -> None:
        """Asserts how many requests the server has seen since then, if there is one."""
        since = (self.requests_seen() or ())[len(before or ()) :]
        assert before is None or len(since) == expected, since

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each test that uses `call` once for each face."""
        if "call" in metafunc.fixturenames:
            metafunc.parametrize("call", self.faces, indirect=True)

    @pytest.fixture
    def call(self, request: pytest.FixtureRequest) -> Iterator[Call]:
        """Calls a method of an embedder through one face: `call(embedder, "embed", texts, dimensions=64)`."""
        if request.param == "sync":
            yield lambda embedder, method, *args, **options: getattr(embedder, method)(*args, **options)
            return
        seen: dict[int, Embedder] = {}
        with anyio.from_thread.start_blocking_portal(request.param) as portal:

            def call(embedder: Embedder, method: str, *args: Any, **options: Any) -> Any:
                seen[id(embedder)] = embedder
                return portal.call(partial(getattr(embedder, "a" + method), *args, **options))

            yield call
            for embedder in seen.values():
                portal.call(embedder.aclose)
            portal.call(self.cleanup)

    @pytest.fixture
    def embedder(self) -> Iterator[Embedder]:
        """An embedder of a fresh provider, closed afterwards."""
        with Embedder(self.make_provider(), on_narrow="allow") as embedder:
            yield embedder

    def test_rows(self, call: Call, embedder: Embedder) -> None:
        """One unit row for each text, in order, independent of the batch, and equal to the oracle's."""
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

    def test_result_says_what_it_is(self, call: Call, embedder: Embedder) -> None:
        """The result names the model, its space and the cut, counts tokens, and is usable as an array."""
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

    def test_documents_and_query(self, call: Call, embedder: Embedder) -> None:
        """`embed_documents` gives a matrix and `embed_query` a vector, each for its role."""
        documents = call(embedder, "embed_documents", TEXTS)
        query = call(embedder, "embed_query", TEXTS[0])
        _assert_unit_rows(documents)
        _assert_unit_rows(query[None, :])
        assert documents.shape == (len(TEXTS), embedder.dimensions)
        expected = self.oracle([TEXTS[0]], embedder.dimensions, "query")
        if expected is not None:
            np.testing.assert_allclose(query, expected[0], atol=self.tolerance)

    def test_every_width(self, call: Call, embedder: Embedder) -> None:
        """Any width can be asked for, and equals what `at` cuts from a wider result."""
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
            assert (result.reduction == "native") == (width == spec.native_dimensions)

    def test_several_widths_take_one_request(self, call: Call, embedder: Embedder) -> None:
        """Several widths take one request, that of the widest."""
        native = embedder.spec.native_dimensions
        widths = [native // 4, native] if embedder.spec.matryoshka else [native]
        before = self.requests_seen()
        result: EmbeddingResult = call(embedder, "embed", TEXTS, dimensions=widths)
        assert result.dimensions == native
        assert [result.at(d).shape[1] for d in widths] == widths
        self._seen_since(before, expected=1)

    def test_no_texts(self, call: Call, embedder: Embedder) -> None:
        """No texts: no request, and an empty matrix."""
        before = self.requests_seen()
        result: EmbeddingResult = call(embedder, "embed", [])
        assert result.embeddings.shape == (0, embedder.dimensions)
        assert result.usage.tokens == 0
        self._seen_since(before, expected=0)

    def test_widths_refused(self, call: Call, embedder: Embedder) -> None:
        """An invalid width is refused before anything is sent."""
        spec, before = embedder.spec, self.requests_seen()
        no_widths: list[Any] = [0, -1, True, 2.0, "64", spec.native_dimensions + 1, []]
        for wrong in no_widths:
            with pytest.raises(DimensionsError):
                call(embedder, "embed", TEXTS, dimensions=wrong)
        if not spec.matryoshka:
            with pytest.raises(NotMatryoshkaError, match=str(spec.native_dimensions)):
                call(embedder, "embed", TEXTS, dimensions=spec.native_dimensions // 2)
        else:
            with pytest.raises(DimensionsOutOfRangeError):
                call(embedder, "embed", TEXTS, dimensions=8).at(9)
        self._seen_since(before, expected=int(spec.matryoshka))

    def test_texts_refused(self, call: Call, embedder: Embedder) -> None:
        """An invalid text is refused with its index, without being shown, before anything is sent."""
        before = self.requests_seen()
        for wrong in ("", " \n", "canary \ud800", None, 7, b"canary"):
            with pytest.raises(InputError) as caught:
                call(embedder, "embed", ["fine", wrong, "fine"])
            assert caught.value.index == 1
            assert "canary" not in str(caught.value)
        with pytest.raises(InputError):
            call(embedder, "embed", "one text")
        self._seen_since(before, expected=0)

    def test_roles_refused(self, call: Call, embedder: Embedder) -> None:
        """A role or a task that the model does not know is refused."""
        refused: list[dict[str, Any]] = [
            {"input_type": "passage"},
            {"task": "poetry"},
            {"input_type": "query", "task": "clustering"},
        ]
        for wrong in refused:
            with pytest.raises(ConfigurationError):
                call(embedder, "embed", TEXTS, **wrong)

    def test_closed(self, call: Call, embedder: Embedder) -> None:
        """A closed embedder says so; closing twice is allowed."""
        embedder.close()
        embedder.close()
        with pytest.raises(ConfigurationError, match="closed"):
            call(embedder, "embed", TEXTS)

    def test_loops_and_lifecycle(self, embedder: Embedder) -> None:
        """Several event loops in turn, and sync calls inside a running loop, work; `async with` closes."""
        backends = [face for face in ("asyncio", "trio", "asyncio") if face in self.faces]
        if self.one_loop or not backends:
            pytest.skip("bound to one event loop")
        expected = embedder.embed_query(TEXTS[0])

        async def both() -> tuple[Any, Any]:
            return embedder.embed_query(TEXTS[0]), await embedder.aembed_query(TEXTS[0])

        for backend in backends:
            for vector in anyio.run(both, backend=backend):
                np.testing.assert_allclose(vector, expected, atol=self.tolerance)

        async def managed() -> None:
            async with Embedder(self.make_provider()) as other:
                await other.aembed_query(TEXTS[0])
            with pytest.raises(ConfigurationError, match="closed"):
                await other.aembed_query(TEXTS[0])

        anyio.run(managed, backend=backends[0])

    def test_seconds_given(self) -> None:
        """`send` and `asend` take a timeout, as a flow passes it."""

        def exchange(provider: Provider) -> Flow[tuple[Batch, Answer]]:
            plan = make_plan(provider.spec, provider.packing, TEXTS, resolve(provider.spec, None))
            batch = next(plan.batches())
            reply = yield Send(provider, provider.encode(batch), 60.0)
            return batch, provider.decode(reply, batch)

        async def main() -> tuple[Batch, Answer]:
            provider = self.make_provider()
            try:
                return await AsyncDriver().run(exchange(provider))
            finally:
                await provider.aclose()
                await self.cleanup()

        for face in self.faces:
            if face == "sync":
                provider = self.make_provider()
                batch, answer = SyncDriver().run(exchange(provider))
                provider.close()
            else:
                batch, answer = anyio.run(main, backend=face)
            assert len(answer.vectors) == len(batch.texts)

    def test_secrets_do_not_show(self) -> None:
        """Printing the provider shows no key."""
        provider = self.make_provider()
        shown = f"{provider!r} {Embedder(provider)!r} {vars(provider)!r}"
        for secret in self.secrets:
            assert secret not in shown
        provider.close()


def _sample_widths(native: int) -> list[int]:
    """The narrowest, the widest, powers of two, and some that no server offers."""
    widths = {1, 2, 7, 100, native // 3, native - 1, native, *(1 << k for k in range(5, 12))}
    return sorted(width for width in widths if 1 <= width <= native)


def _assert_unit_rows(vectors: NDArray[np.float32]) -> None:
    assert vectors.dtype == np.float32
    assert vectors.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1.0, atol=1e-5)
