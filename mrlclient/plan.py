"""Texts -> batches: validate, apply the prompt, send each text once, pack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias, get_args

import numpy as np

from mrlclient.dimensions import Resolution
from mrlclient.errors import ConfigurationError, InputError
from mrlclient.models import InputType, ModelSpec, Task
from mrlclient.tokens import Sizes, TokenEstimator, token_bound

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows of a plan: those of its own batches follow one another.
Rows: TypeAlias = "range | NDArray[np.intp]"


@dataclass(frozen=True, slots=True)
class Packing:
    """How a provider wants its batches.

    A text that exceeds a bound by itself goes alone.

    Attributes:
        max_inputs: Texts in one batch.
        max_tokens: Tokens in one batch; None for no bound.
        padded: The batch is computed as a rectangle: texts of like length go together, and a batch counts as its
            longest text times its number of texts.
        serial: One batch at a time: the work of one already takes all cores.
        estimated: Tokens are estimated, because a request with too many is refused with the scope `"size"`, and then
            halved. Otherwise they are taken for as many as they can be, a token a byte.
        max_request_bytes: Bytes of texts in one batch; None for no bound.
        max_answer_bytes: Bytes of vectors in its answer, as base64; None for no bound.
    """

    max_inputs: int
    max_tokens: int | None = None
    padded: bool = False
    serial: bool = False
    estimated: bool = False
    max_request_bytes: int | None = None
    max_answer_bytes: int | None = None

    def most_inputs(self, width: int) -> int:
        """Texts in one batch whose vectors have this many dimensions."""
        if self.max_answer_bytes is None:
            return self.max_inputs
        # 4 bytes a number, and 4 characters for every 3 bytes begun.
        return min(self.max_inputs, max(1, self.max_answer_bytes // (4 * -(-4 * width // 3))))


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes out at once.

    Attributes:
        texts: Prompt included.
        rows: Their rows in the plan's order.
        resolution: The width asked for.
        input_type: The role, for providers that take it as a parameter.
        truncate_input: Whether the provider may cut an over-long text.
    """

    texts: Sequence[str] = field(repr=False)
    rows: Rows = field(repr=False)
    resolution: Resolution
    input_type: InputType | None
    truncate_input: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        spec: The model.
        resolution: How the width is had.
        input_type: The role in force.
        task: The task in force.
        prompt: What stands before each text.
        texts: Each distinct text once, prompt included, in the order of computation.
        rows: (n,) row of each given text in `texts`.
        truncate_input: Whether an over-long text may be cut.
        packing: How batches are packed.
        sizes: How large each of `texts` is.
    """

    spec: ModelSpec
    resolution: Resolution
    input_type: InputType | None
    task: Task | None
    prompt: str
    texts: Sequence[str] = field(repr=False)
    rows: NDArray[np.intp] = field(repr=False)
    truncate_input: bool
    packing: Packing
    sizes: Sizes = field(repr=False)

    def batches(
        self, wanted: Sequence[int] | NDArray[np.intp] | None = None, estimator: TokenEstimator | None = None
    ) -> Iterator[Batch]:
        """Batches of the texts in these rows; of all texts by default.

        Each is made when it is asked for, by what the estimator knows by then.
        """
        rows: Rows = range(len(self.texts)) if wanted is None else np.asarray(wanted, dtype=np.intp)
        start = 0
        for stop in self._stops(rows, estimator or TokenEstimator()):
            yield self.batch(rows[start:stop])
            start = stop

    def was_too_large(self, rows: Rows, estimator: TokenEstimator) -> None:
        """Tells the estimator that these rows, sent as one batch, were refused for their size."""
        packing, load, parts = self.packing, self.sizes.load(rows), list[float]()
        if packing.max_tokens is not None:
            parts.append(float(estimator.careful() @ load) / packing.max_tokens)
        if packing.max_request_bytes is not None:
            parts.append(sum(load) / packing.max_request_bytes)
        estimator.refused(load, packing.max_tokens, max(parts, default=1.0))

    def _stops(self, rows: Rows, estimator: TokenEstimator) -> Iterator[int]:
        """Where batches of these rows end, each decided when it is asked for."""
        count, packing = len(rows), self.packing
        most = packing.most_inputs(self.resolution.received)
        if count <= 1:
            yield from range(1, count + 1)
            return
        bounds = self.sizes.bounds
        sizes = bounds[rows.start : rows.stop] if isinstance(rows, range) else [bounds[row] for row in rows.tolist()]
        if packing.padded:
            yield from _padded_stops(sizes, packing)
            return
        # Sums up to each row, so that a batch is found by a search.
        surely = np.cumsum([0, *sizes])
        kinds: NDArray[np.float64] | None = None
        start = 0
        while start < count:
            share = estimator.share
            stop = min(start + most, count, _reach(surely, start, packing.max_request_bytes, share))
            if packing.max_tokens is not None and surely[stop] - surely[start] > packing.max_tokens * share:
                if packing.estimated:
                    if kinds is None:
                        loads = self.sizes.loads
                        kinds = loads[rows.start : rows.stop] if isinstance(rows, range) else loads[rows]
                    likely = np.concatenate([[0.0], np.cumsum(kinds[start:stop] @ estimator.careful())])
                    reached = start + _reach(likely, 0, packing.max_tokens, share)
                else:
                    reached = _reach(surely, start, packing.max_tokens, share)
                stop = min(stop, reached)
            start = max(stop, start + 1)
            yield start

    def batch(self, rows: Rows) -> Batch:
        """One batch of the texts in these rows, whatever their size."""
        texts = self.texts[rows.start : rows.stop] if isinstance(rows, range) else [self.texts[int(r)] for r in rows]
        return Batch(texts, rows, self.resolution, self.input_type, self.truncate_input)

    def given_index(self, row: int) -> int:
        """The first position in the caller's list of the text in this row."""
        return int(np.argmax(self.rows == row))

    def under(self, spec: ModelSpec, packing: Packing, resolution: Resolution) -> Plan:
        """The same texts in the same order for another model of the space.

        Raises:
            ConfigurationError: If that model does not know the task.
        """
        role, prompt = role_of(spec, self.input_type, self.task)
        texts, sizes = self.texts, self.sizes
        if prompt != self.prompt:
            texts = [prompt + text[len(self.prompt) :] for text in texts]
            longer = len(prompt.encode("utf-8")) - len(self.prompt.encode("utf-8"))
            sizes = Sizes(texts, [size + longer for size in sizes.bounds])
        return replace(
            self,
            spec=spec,
            packing=packing,
            resolution=resolution,
            input_type=role,
            prompt=prompt,
            texts=texts,
            sizes=sizes,
        )


def make_plan(
    spec: ModelSpec,
    packing: Packing,
    texts: Iterable[str],
    resolution: Resolution,
    *,
    input_type: InputType | None = None,
    task: Task | None = None,
    truncate_input: bool = False,
) -> Plan:
    """Plans a call. Nothing is sent, nothing is computed.

    Raises:
        InputError: If a text cannot be embedded, with its index.
        ConfigurationError: If the role or the task is not one that the model knows.
    """
    role, prompt = role_of(spec, input_type, task)
    given = _checked_texts(texts)
    distinct = list(dict.fromkeys(given))
    # The allowance covers a provider's own prompt; one that is put here is counted.
    added = len(prompt.encode("utf-8")) if prompt else 0
    bounds = [bound + added for bound in map(token_bound, distinct)]
    if packing.padded:
        order = sorted(range(len(distinct)), key=bounds.__getitem__)
        distinct, bounds = [distinct[i] for i in order], [bounds[i] for i in order]
    if len(distinct) == len(given) and not packing.padded:
        rows = np.arange(len(given), dtype=np.intp)
    else:
        row_of = {text: row for row, text in enumerate(distinct)}
        rows = np.fromiter(map(row_of.__getitem__, given), dtype=np.intp, count=len(given))
    prompted = [prompt + text for text in distinct] if prompt else distinct
    sizes = Sizes(prompted, bounds)
    return Plan(spec, resolution, role, task, prompt, prompted, rows, truncate_input, packing, sizes)


def role_of(spec: ModelSpec, input_type: InputType | None, task: Task | None) -> tuple[InputType | None, str]:
    """The role in force, and what to put before each text.

    Raises:
        ConfigurationError: If the role or the task is not one that the model knows.
    """
    if input_type is not None and input_type not in get_args(InputType):
        raise ConfigurationError(f"input_type must be 'query', 'document' or None, not {input_type!r}.")
    if task is None:
        role = input_type or spec.default_input_type
        return role, spec.prompts.get(role, "") if role else ""
    if input_type is not None:
        raise ConfigurationError("Pass input_type or task, not both: each names the one prompt of a text.")
    tasks = [name for name in spec.prompts if name not in get_args(InputType)]
    if task not in tasks:
        known = f"It knows {' and '.join(tasks)}." if tasks else "It knows none: leave task out."
        raise ConfigurationError(f"{spec.address} has no task {task!r}. {known}")
    return None, spec.prompts[task]


def _checked_texts(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str | bytes):
        raise InputError("Pass a list of texts, not one text; embed_query takes a single one.")
    if isinstance(texts, Mapping):
        raise InputError(f"Pass a list of texts, not {type(texts).__name__}: its keys would be embedded.")
    try:
        iterator = iter(texts)
    except TypeError:
        raise InputError(f"Pass a list of texts, not {type(texts).__name__}.") from None
    # An error of the caller's own generator is the caller's to see.
    given = list(iterator)
    # Nearly always it is so, and told without a step of Python a text.
    plain = set(map(type, given)) <= {str} and all(given) and all(map(str.isascii, given))
    if plain and not any(map(str.isspace, given)):
        return given
    for index, text in enumerate(given):
        if not isinstance(text, str):
            raise InputError(f"Text {index} is {type(text).__name__}, not a string.", index=index)
        if not text or text.isspace():
            raise InputError(f"Text {index} is empty or blank: there is nothing to embed. Leave it out.", index=index)
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                # Raised below: the Unicode error holds the text, and would stay attached as the context.
                pass
            else:
                continue
            raise InputError(
                f"Text {index} holds a lone surrogate, which no provider can take. "
                "Decode its bytes with errors='replace' first.",
                index=index,
            )
    # Plain strings: a subclass may have an equality of its own, and two texts would share one vector.
    return [text if type(text) is str else str.__str__(text) for text in given]


def _reach(sums: NDArray[np.float64] | NDArray[np.intp], start: int, bound: int | None, share: float) -> int:
    """How far a batch gets from a row on within a bound."""
    if bound is None:
        return len(sums) - 1
    return int(np.searchsorted(sums, sums[start] + bound * share, side="right")) - 1


def _padded_stops(sizes: Sequence[int], packing: Packing) -> Iterator[int]:
    """Where batches end that are computed as rectangles: they come sorted, so the last text is the longest."""
    start = 0
    for i, size in enumerate(sizes):
        grown = size * (i - start + 1)
        full = i - start >= packing.max_inputs or (packing.max_tokens is not None and grown > packing.max_tokens)
        if full and i > start:
            yield i
            start = i
    if start < len(sizes):
        yield len(sizes)
