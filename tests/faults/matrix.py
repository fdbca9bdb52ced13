"""The fault matrix: what goes wrong, as data, how it is run, and what came of it."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Literal
from unittest.mock import patch
from weakref import WeakValueDictionary

import numpy as np

from mrlclient import Embedder, MRLError, OpenAI, OpenAICompatible, ServerBehaviorWarning, Voyage, gates
from mrlclient.cache import MemoryCache
from mrlclient.drivers import AsyncDriver, SyncDriver
from mrlclient.models import find_model
from mrlclient.operations import Sleep
from mrlclient.providers.base import Provider
from mrlclient.testing import Emulator
from mrlclient.testing.emulator import Fault, emulator_vector
from mrlclient.vectors import truncate_dimensions
from tests.faults.server import KEY, MODEL, FaultServer, Script, serving

FACES = ("sync", "asyncio")
TEXTS = ("a first text, which nobody else may see", "a second text, as private", "and a third text")
ADDRESSES = {
    "openai": MODEL,
    "openai-compatible": MODEL.replace("openai:", "openai-compatible:"),
    "voyage": "voyage:voyage-4",
}

#: A call that takes longer than this is taken to hang, in seconds.
_HANGS = 10.0

Kind = Literal["right", "typed", "wrong", "foreign", "hung"]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where something goes wrong.

    Attributes:
        provider: The provider that is pointed there.
        requests: How many attempts arrived; None where none can.
        unseeing: What arrived where neither key nor text may.
        on_wait: Called in the place of each wait.
    """

    provider: Provider
    requests: Callable[[], int] | None
    unseeing: Callable[[], bytes] = bytes
    on_wait: Callable[[], None] = lambda: None


Injection = Callable[[Emulator], AbstractContextManager[Site]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One fault.

    Attributes:
        row: The row of the matrix.
        name: The fault.
        inject: Brings it about.
        expects: The error that must come of it; None for the right vectors.
        attempts: Attempts that must be made, the first included; 0 where nothing may be sent.
        says: A part of the error's message.
        first_wait: Bounds of the first wait, in seconds.
        within: Seconds that it may take at most.
        texts: What is embedded.
        dimensions: The width asked for.
        max_attempts: As of `Embedder`.
    """

    row: str
    name: str
    inject: Injection
    expects: type[MRLError] | None
    attempts: int
    says: str = ""
    first_wait: tuple[float, float] | None = None
    within: float = _HANGS
    texts: Sequence[str] = field(default=TEXTS, repr=False)
    dimensions: int | None = 512
    max_attempts: int = 5

    @property
    def kind(self) -> Kind:
        """What must come of it."""
        return "right" if self.expects is None else "typed"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a case on one face.

    Attributes:
        kind: The right vectors, a typed error, wrong vectors without an error, another's error, or nothing in time.
        error: The error.
        attempts: Attempts made; None where they cannot be counted.
        waits: Seconds of each wait.
        seconds: How long it took.
        stored: Vectors that stood in the cache afterwards.
        leaked: Whether the key or a text arrived where it may not.
    """

    kind: Kind
    error: BaseException | None = None
    attempts: int | None = None
    waits: Sequence[float] = ()
    seconds: float = _HANGS
    stored: int = 0
    leaked: bool = False


def check(case: Case, face: str, emulator: Emulator) -> Outcome:
    """Runs a case and asserts everything that it says.

    Returns:
        What came of it, for what a test has to add.
    """
    outcome = run(case, face, emulator)
    assert outcome.kind == case.kind, outcome
    assert outcome.attempts in (None, case.attempts), outcome
    assert len(outcome.waits) == max(case.attempts - 1, 0), outcome
    assert outcome.seconds <= case.within, outcome
    assert not outcome.leaked, outcome
    if case.expects is None:
        assert outcome.stored == len(set(case.texts))
    else:
        said = str(outcome.error)
        assert type(outcome.error) is case.expects, outcome
        assert case.says in said
        assert outcome.error.__cause__ is None
        assert outcome.error.__context__ is None
        assert KEY not in said
        assert not any(text in said for text in case.texts if isinstance(text, str) and len(text) > 9)
        assert outcome.stored == 0
    if case.first_wait is not None:
        low, high = case.first_wait
        assert low <= outcome.waits[0] <= high, outcome
    return outcome


def run(case: Case, face: str, emulator: Emulator) -> Outcome:
    """Runs a case on one face, in a thread of its own, so that one that hangs can be told of."""
    done: Future[Outcome] = Future()

    def work() -> None:
        try:
            done.set_result(_run(case, face, emulator))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return done.result(_HANGS)
    except TimeoutError:
        return Outcome(kind="hung")


def _run(case: Case, face: str, emulator: Emulator) -> Outcome:
    cache = MemoryCache()
    error: Exception | None = None
    with (
        case.inject(emulator) as site,
        waits_skipped(site.on_wait) as waits,
        warnings.catch_warnings(),
        Embedder(site.provider, cache=cache, max_attempts=case.max_attempts, on_narrow="allow") as embedder,
    ):
        warnings.simplefilter("ignore", ServerBehaviorWarning)
        rows = None
        began = time.monotonic()
        try:
            rows = embed(embedder, face, case.texts, case.dimensions)
        except Exception as raised:
            error = raised
        seconds = time.monotonic() - began
        attempts = site.requests() if site.requests else None
        stored = cache.stats().entries
        if rows is not None:
            # Once more: what the cache has kept must be right, and be all.
            again = embed(embedder, face, case.texts, case.dimensions)
            right = _is_right(case, embedder, rows) and _is_right(case, embedder, again)
            if site.requests is not None and site.requests() != attempts:
                stored = 0
        seen = site.unseeing()
    kind: Kind = "typed" if isinstance(error, MRLError) else "foreign"
    if rows is not None:
        kind = "right" if right else "wrong"
    leaked = KEY.encode() in seen or any(text.encode()[:16] in seen for text in TEXTS)
    return Outcome(
        kind=kind, error=error, attempts=attempts, waits=waits, seconds=seconds, stored=stored, leaked=leaked
    )


def embed(embedder: Embedder, face: str, texts: Sequence[str], dimensions: int | None = None) -> np.ndarray:
    """The rows of some texts, on one face."""
    if face == "sync":
        return embedder.embed(texts, dimensions=dimensions).embeddings
    return asyncio.run(embedder.aembed(texts, dimensions=dimensions)).embeddings


def expected_rows(address: str, texts: Sequence[str], width: int) -> np.ndarray:
    """The rows that are right."""
    known = address.replace("openai-compatible:", "openai:")
    return truncate_dimensions(np.array([emulator_vector(known, text) for text in texts]), width)


def _is_right(case: Case, embedder: Embedder, rows: np.ndarray) -> bool:
    expected = expected_rows(embedder.model, case.texts, case.dimensions or embedder.dimensions)
    return rows.shape == expected.shape and bool(np.allclose(rows, expected, atol=3e-4))


@contextmanager
def waits_skipped(on_wait: Callable[[], None] = lambda: None) -> Iterator[list[float]]:
    """Nobody sleeps between attempts; the seconds are noted instead, and gates believe that they have passed."""
    waits: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(waits))
    perform, aperform = SyncDriver._perform, AsyncDriver._perform

    def skip(seconds: float) -> None:
        waits.append(seconds)
        on_wait()

    def sync(self, operation):
        return skip(operation.seconds) if isinstance(operation, Sleep) else perform(self, operation)

    async def asynchronous(self, operation):
        return skip(operation.seconds) if isinstance(operation, Sleep) else await aperform(self, operation)

    with (
        patch.object(SyncDriver, "_perform", sync),
        patch.object(AsyncDriver, "_perform", asynchronous),
        patch.object(gates, "time", clock),
        patch.object(gates, "_gates", WeakValueDictionary()),
    ):
        yield waits


# --- ways to bring a fault about


def of_emulator(*faults: Fault, provider: str = "openai", timeout: float = 5.0) -> Injection:
    """The emulator with these faults to come."""

    @contextmanager
    def inject(emulator: Emulator) -> Iterator[Site]:
        emulator.clear()
        emulator.faults.extend(faults)
        yield Site(provider=provider_at(emulator, provider, timeout), requests=lambda: len(emulator.requests))
        emulator.clear()

    return inject


def of_script(script: Script, *, timeout: float = 5.0, unseeing: bool = False) -> Injection:
    """A bare server that plays a script; `unseeing` where nothing secret may arrive."""

    @contextmanager
    def inject(_: Emulator) -> Iterator[Site]:
        with serving(script) as server:
            yield site_of(server, timeout=timeout, unseeing=unseeing)

    return inject


def site_of(server: FaultServer, *, timeout: float = 5.0, unseeing: bool = False) -> Site:
    """A site at a bare server, each of whose connections is an attempt."""
    return Site(
        provider=openai_at(server.url, timeout),
        requests=lambda: server.connections,
        unseeing=(lambda: b"".join(server.received)) if unseeing else bytes,
    )


def provider_at(emulator: Emulator, name: str, timeout: float = 5.0) -> Provider:
    model = ADDRESSES[name].partition(":")[2]
    if name == "openai":
        return OpenAI(model, api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=timeout)
    if name == "openai-compatible":
        spec = replace(find_model(MODEL), provider=name)
        return OpenAICompatible(spec, api_key=emulator.openai_key, base_url=emulator.openai_base_url, timeout=timeout)
    return Voyage(model, api_key=emulator.voyage_key, base_url=emulator.voyage_base_url, timeout=timeout)


def openai_at(url: str, timeout: float = 5.0) -> Provider:
    return OpenAI(MODEL.partition(":")[2], api_key=KEY, base_url=url, timeout=timeout)


def named(cases: Sequence[Case]) -> Callable[[Case], str]:
    """Test ids, which have to be unique."""
    names = [case.name for case in cases]
    assert len(names) == len(set(names)), "two cases have one name"
    return lambda case: case.name


def then_well(script: Script, well: Script) -> Script:
    """The script for the first connection, and the other one for all after it."""
    return lambda connection: (script if connection.number == 1 else well)(connection)
