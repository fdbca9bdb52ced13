"""One call of an embedder: what is wanted, who may answer, how hard to try, and what came of it so far."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from mrlclient._codes import STORED_AS, code_width
from mrlclient.dimensions import resolve
from mrlclient.errors import MRLError
from mrlclient.models import ModelSpec
from mrlclient.operations import Answer, Flow, Policy
from mrlclient.output_type import FLOATS, OutputType
from mrlclient.plan import Batch, Plan, Rows
from mrlclient.result import EmbeddingResult, Usage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mrlclient.endpoints import Endpoint, Route

#: What to do where some texts cannot be embedded and others can.
OnError = Literal["raise", "return"]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was answered.

    Attributes:
        endpoint: Who answered.
        spec: The model that did.
        texts: Usable vectors that it brought.
        tokens: Tokens paid for; None where the provider did not say.
        model: The model as the provider named it; None where it did not.
        cut_here: Whether a server ignored the width, so that the cut was made here.
        notes: What the server ignored.
    """

    endpoint: Endpoint
    spec: ModelSpec
    texts: int
    tokens: int | None
    model: str | None
    cut_here: bool
    notes: tuple[str, ...]


@dataclass(slots=True)
class Cached:
    """What was not paid for: texts, their tokens, and what those had cost."""

    texts: int = 0
    tokens: float = 0.0
    usd: float = 0.0


class Keeper(Protocol):
    """Told of what becomes of each row that was sent for."""

    def keep(self, batch: Batch, good: NDArray[np.intp] | None, answer: Answer) -> Flow[None]:
        """An answer for the main model is there; `good` are the places of its usable vectors, None for all."""
        ...

    def failed(self, rows: Iterable[int], error: MRLError) -> None:
        """These are not to be had. The error is not in the caller's terms."""
        ...


@dataclass(slots=True)
class Call:
    """Its state. Flows of one call run in several threads: each writes rows of its own, and appends.

    Attributes:
        plan: What is wanted, of the main endpoint's model.
        route: Who may answer.
        policy: How hard to try.
        on_error: Whether texts that cannot be had are an error.
        rows: (n, d) float32, or (n, w) codes of a server: a row for each of the plan's texts; meaningful where `done`.
        done: (n,) bool.
        asked: Who was sent a request, each time.
        sent: The requests that were answered.
        failures: Row -> why it is not to be had, in the caller's terms.
        cached: What the cache had; None without one.
        keeper: Who keeps what comes; None without a cache.
        given_up: The error after which nothing more is sent.
        streamed: Whether it is a part of a stream.
        output: The type that the vectors are wanted in, beside the floats.
    """

    plan: Plan
    route: Route
    policy: Policy
    on_error: OnError = "raise"
    rows: NDArray[Any] = field(init=False)
    done: NDArray[np.bool_] = field(init=False)
    asked: list[Endpoint] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    failures: dict[int, MRLError] = field(default_factory=dict)
    cached: Cached | None = None
    keeper: Keeper | None = None
    given_up: MRLError | None = None
    streamed: bool = False
    output: OutputType = FLOATS
    _plans: dict[Endpoint, Plan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        width, dtype = self.plan.resolution.dimensions, self.plan.resolution.dtype
        if dtype != "float32":
            width = code_width(dtype, width)
        self.rows = np.empty((len(self.plan.texts), width), dtype=STORED_AS[dtype])
        self.done = np.zeros(len(self.plan.texts), dtype=np.bool_)

    def plan_for(self, endpoint: Endpoint) -> Plan:
        """The plan for an endpoint, which may have another model of the space."""
        spec = endpoint.provider.spec
        # To be the same is told faster than to be equal, and is the rule.
        if spec is self.plan.spec or spec == self.plan.spec:
            return self.plan
        if endpoint not in self._plans:
            wanted = self.plan.resolution
            resolution = resolve(spec, wanted.dimensions, dtype=wanted.dtype)
            self._plans[endpoint] = self.plan.under(spec, endpoint.provider.packing, resolution)
        return self._plans[endpoint]

    def open(self, rows: Rows) -> Rows:
        """Those of the rows that neither came nor failed."""
        done = self.done[rows.start : rows.stop] if isinstance(rows, range) else self.done[rows]
        if not (self.failures or done.any()):
            return rows
        return np.array([row for row in rows if not self.done[row] and int(row) not in self.failures], dtype=np.intp)

    def room(self, rows: Rows) -> NDArray[Any] | None:
        """Where an answer of the main model may write these rows itself; None where they are not final as they come."""
        resolution = self.plan.resolution
        cut_here = resolution.received != resolution.dimensions or self.plan.spec.is_centered
        # A keeper keeps vectors as they came, while the rows are being normalised.
        if cut_here or self.keeper is not None or not isinstance(rows, range):
            return None
        return self.rows[rows.start : rows.stop]

    def fail(self, row: int, error: MRLError) -> None:
        """One text is not to be had: the error is put into the caller's terms."""
        if self.keeper is not None:
            self.keeper.failed([row], error)
        self.failures[int(row)] = about(error, self.plan.given_index(row))

    def fail_all(self, rows: Rows, error: MRLError) -> None:
        """What is neither there nor failed of these rows is not to be had, for a reason that is not a text's own."""
        lost = [int(row) for row in self.open(rows)]
        if self.keeper is not None:
            self.keeper.failed(lost, error)
        self.failures.update(dict.fromkeys(lost, error))

    def verdict(self) -> MRLError | None:
        """The failure that makes the call an error; None where what is missing may be returned."""
        if self.on_error == "return" and self.done.any():
            return None
        if self.on_error == "return" and self.streamed:
            # A few texts that are refused, alone in their chunk, do not end a stream of millions; a server that is
            # down does.
            return next((error for error in self.failures.values() if getattr(error, "index", None) is None), None)
        return self.first_failure()

    def first_failure(self) -> MRLError | None:
        """The failure that stands first in the caller's list."""
        row = min(self.failures, key=self.plan.given_index, default=None)
        return None if row is None else self.failures[row]

    def result(self, missing: MRLError | None = None) -> EmbeddingResult:
        """What came of it.

        Args:
            missing: Why rows are missing that neither came nor failed; None where there are none.
        """
        plan, done, dtype = self.plan, self.done, self.plan.resolution.dtype
        whole = np.count_nonzero(done) == len(done)
        if not whole:
            done = done.copy()
        rows = self.rows
        errors: dict[int, MRLError] = {}
        if not (whole and isinstance(plan.rows, range)):
            # Threads of an abandoned call may still be writing, so what is not whole is copied.
            rows = self.rows[np.asarray(plan.rows, dtype=np.intp)]
        if not whole:
            lost = np.flatnonzero(~done[np.asarray(plan.rows, dtype=np.intp)])
            rows[lost] = np.nan if dtype == "float32" else 0
            for index in lost:
                error = self.failures.get(int(plan.rows[index]), missing)
                assert error is not None, "a row is missing and nobody said why"
                errors[int(index)] = error
        answered: dict[str, int] = {}
        notes: dict[str, None] = {}
        reduction = plan.resolution.reduction
        for sent in self.sent:
            answered[sent.endpoint.label] = answered.get(sent.endpoint.label, 0) + sent.texts
            notes |= dict.fromkeys(sent.notes)
            if sent.cut_here:
                reduction = "client"
        quantized = None
        if dtype != "float32":
            # Imported here: a process that takes floats does without it.
            from mrlclient.quantize import Quantized

            quantized = Quantized(rows, dtype, plan.resolution.dimensions, quantization="server")
        return EmbeddingResult(
            rows if quantized is None else None,
            spec=plan.spec,
            reduction=reduction,
            input_type=plan.input_type,
            task=plan.task,
            usage=self.usage(),
            notes=tuple(notes),
            answered_by=answered,
            errors=errors,
            on_narrow=self.policy.on_narrow,
            quantized=quantized,
        )

    def usage(self) -> Usage:
        """What was paid for, and what was not."""
        tokens: int | None = 0
        usd: float | None = 0.0
        for sent in self.sent:
            price = sent.spec.usd_per_million_tokens
            usd = None if usd is None or price is None or sent.tokens is None else usd + sent.tokens * price / 1e6
            tokens = None if tokens is None or sent.tokens is None else tokens + sent.tokens
        cached = self.cached
        return Usage(tokens, usd) if cached is None else Usage(tokens, usd, cached.texts, cached.tokens, cached.usd)


def about(error: MRLError, index: int) -> MRLError:
    """The error as one about a single text of the caller's list: a copy that says which."""
    made = copy.copy(error)
    made.args = (f"Text {index}: {error}",)
    made.partial = None
    # Every error that can be about one text says so by `index`.
    made.index = index  # type: ignore[attr-defined]
    return made
