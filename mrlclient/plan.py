"""Texts -> batches: validate, apply the prompt, send each text once, pack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import numpy as np

from mrlclient.dimensions import Resolution
from mrlclient.errors import ConfigurationError, InputError
from mrlclient.models import InputType, ModelSpec, Task
from mrlclient.packing import Packing
from mrlclient.tokens import Sizes, TokenEstimator, token_bound

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows of a plan: those of its own batches follow one another.
Rows: TypeAlias = "range | NDArray[np.intp]"

_ROLES = get_args(InputType)


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes out at once.

    Attributes:
        texts: Prompt included.
        rows: Their rows in the plan's order.
        resolution: The width asked for.
        input_type: The role, for providers that take it as a parameter.
        truncate_input: Whether the provider may cut an over-long text.
        out: (n, received width) float32, or codes of the type asked for, where a provider may write the vectors of its
            answer, so that they are not copied: the answer's `vectors` is then this very matrix. None where there is no
            such place.
    """

    texts: Sequence[str] = field(repr=False)
    rows: Rows = field(repr=False)
    resolution: Resolution
    input_type: InputType | None
    truncate_input: bool
    out: NDArray[Any] | None = field(default=None, repr=False, compare=False)


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
        rows: Row of each given text in `texts`; a range where these are the given texts in their order.
        truncate_input: Whether an over-long text may be cut.
        packing: How batches are packed.
        sizes: How large each of `texts` is.
        start: Where the given texts begin in the caller's list.
    """

    spec: ModelSpec
    resolution: Resolution
    input_type: InputType | None
    task: Task | None
    prompt: str
    texts: Sequence[str] = field(repr=False)
    rows: Rows = field(repr=False)
    truncate_input: bool
    packing: Packing
    sizes: Sizes = field(repr=False)
    start: int = 0

    @property
    def kept_width(self) -> int:
        """Numbers of a kept vector that are needed: all where the recipe needs the mean over them."""
        return self.spec.native_dimensions if self.spec.is_centered else self.resolution.dimensions

    def batches(
        self, wanted: Sequence[int] | NDArray[np.intp] | None = None, estimator: TokenEstimator | None = None
    ) -> Iterator[Batch]:
        """Batches of the texts in these rows; of all texts by default.

        Each is made when it is asked for, by what the estimator knows by then.
        """
        rows: Rows = range(len(self.texts)) if wanted is None else np.asarray(wanted, dtype=np.intp)
        start = 0
        for stop in self.packing.stops(self.sizes, rows, self.resolution.received, estimator or TokenEstimator()):
            yield self.batch(_as_range(rows[start:stop]))
            start = stop

    def batch(self, rows: Rows, out: NDArray[Any] | None = None) -> Batch:
        """One batch of the texts in these rows, whatever their size."""
        texts = self.texts[rows.start : rows.stop] if isinstance(rows, range) else [self.texts[int(r)] for r in rows]
        return Batch(texts, rows, self.resolution, self.input_type, self.truncate_input, out)

    def given_index(self, row: int) -> int:
        """The first position in the caller's list of the text in this row."""
        return self.start + (int(row) if isinstance(self.rows, range) else int(np.argmax(self.rows == row)))

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
    start: int = 0,
) -> Plan:
    """Plans a call. Nothing is sent, nothing is computed.

    Raises:
        InputError: If a text cannot be embedded, with its index.
        ConfigurationError: If the role or the task is not one that the model knows.
    """
    role, prompt = role_of(spec, input_type, task)
    given = _checked_texts(texts, start)
    distinct = list(dict.fromkeys(given))
    # The allowance covers a provider's own prompt; one that is put here is counted.
    added = len(prompt.encode("utf-8")) if prompt else 0
    bounds = [bound + added for bound in map(token_bound, distinct)]
    if packing.padded:
        order = sorted(range(len(distinct)), key=bounds.__getitem__)
        distinct, bounds = [distinct[i] for i in order], [bounds[i] for i in order]
    rows: Rows = range(len(given))
    if distinct != given:
        row_of = {text: row for row, text in enumerate(distinct)}
        rows = np.fromiter(map(row_of.__getitem__, given), dtype=np.intp, count=len(given))
    prompted = [prompt + text for text in distinct] if prompt else distinct
    sizes = Sizes(prompted, bounds)
    return Plan(spec, resolution, role, task, prompt, prompted, rows, truncate_input, packing, sizes, start)


def role_of(spec: ModelSpec, input_type: InputType | None, task: Task | None) -> tuple[InputType | None, str]:
    """The role in force, and what to put before each text.

    Raises:
        ConfigurationError: If the role or the task is not one that the model knows.
    """
    if input_type is not None and input_type not in _ROLES:
        raise ConfigurationError(f"input_type must be 'query', 'document' or None, not {input_type!r}.")
    if task is None:
        role = input_type or spec.default_input_type
        return role, spec.prompts.get(role, "") if role else ""
    if input_type is not None:
        raise ConfigurationError("Pass input_type or task, not both: each names the one prompt of a text.")
    tasks = [name for name in spec.prompts if name not in _ROLES]
    if task not in tasks:
        known = f"It knows {' and '.join(tasks)}." if tasks else "It knows none: leave task out."
        raise ConfigurationError(f"{spec.address} has no task {task!r}. {known}")
    return None, spec.prompts[task]


def iterator_of(texts: Iterable[str]) -> Iterator[str]:
    """What gives the texts one by one.

    Raises:
        InputError: If they are no list of texts.
    """
    if isinstance(texts, str | bytes):
        raise InputError("Pass a list of texts, not one text; embed_query takes a single one.")
    if isinstance(texts, Mapping):
        raise InputError(f"Pass a list of texts, not {type(texts).__name__}: its keys would be embedded.")
    try:
        return iter(texts)
    except TypeError:
        raise InputError(f"Pass a list of texts, not {type(texts).__name__}.") from None


def _checked_texts(texts: Iterable[str], start: int) -> list[str]:
    # An error of the caller's own generator is the caller's to see.
    given = list(iterator_of(texts))
    # Nearly always it is so, and told without a step of Python a text.
    plain = set(map(type, given)) <= {str} and all(given) and all(map(str.isascii, given))
    if plain and not any(map(str.isspace, given)):
        return given
    for index, text in enumerate(given, start):
        if not isinstance(text, str):
            raise InputError(f"Text {index} is {type(text).__name__}, not a string.", index=index)
        if not text or text.isspace():
            raise InputError(f"Text {index} is empty or blank: there is nothing to embed. Leave it out.", index=index)
        if not is_sendable(text):
            raise InputError(
                f"Text {index} holds a lone surrogate, which no provider can take. "
                "Decode its bytes with errors='replace' first.",
                index=index,
            )
    # Plain strings: a subclass may have an equality of its own, and two texts would share one vector.
    return [text if type(text) is str else str.__str__(text) for text in given]


def is_sendable(text: str) -> bool:
    """Whether a text holds anything, and no lone surrogate."""
    if text.isascii():
        return bool(text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # Not raised: the Unicode error holds the text, and would stay attached as the context.
        return False
    return True


def _as_range(rows: Rows) -> Rows:
    """Rows that follow one another as a range: they are read and written in place."""
    if isinstance(rows, range):
        return rows
    return range(int(rows[0]), int(rows[-1]) + 1) if (np.diff(rows) == 1).all() else rows
