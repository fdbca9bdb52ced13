"""Texts -> batches: validate, apply the prompt, send each text once, pack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias, get_args

import numpy as np

from mrlclient.dimensions import Resolution
from mrlclient.errors import ConfigurationError, InputError
from mrlclient.models import InputType, ModelSpec, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows of a plan: those of its own batches follow one another.
Rows: TypeAlias = "range | NDArray[np.intp]"

#: Tokens that a provider may add to a text: its prompt and its special tokens.
_PROMPT_ALLOWANCE = 32


@dataclass(frozen=True, slots=True)
class Packing:
    """How a provider wants its batches.

    Attributes:
        max_inputs: Texts in one batch.
        max_tokens: Tokens in one batch; None for no bound.
        padded: The batch is computed as a rectangle: texts of like length go together, and a batch counts as its
            longest text times its number of texts.
        serial: One batch at a time: the work of one already takes all cores.
    """

    max_inputs: int
    max_tokens: int | None = None
    padded: bool = False
    serial: bool = False


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
        sizes: For each of `texts`, tokens that it cannot exceed.
        start: Where the given texts begin in the caller's list.
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
    sizes: Sequence[int] = field(repr=False)
    start: int = 0

    def batches(self, wanted: Sequence[int] | NDArray[np.intp] | None = None) -> list[Batch]:
        """Batches of the texts in these rows; of all texts by default."""
        if wanted is None:
            runs = list(_pack(self.sizes, self.packing))
            return [self.batch(range(start, stop)) for start, stop in runs]
        rows = np.asarray(wanted, dtype=np.intp)
        runs = list(_pack([self.sizes[row] for row in rows], self.packing))
        return [self.batch(rows[start:stop]) for start, stop in runs]

    def batch(self, rows: Rows) -> Batch:
        """One batch of the texts in these rows, whatever their size."""
        texts = self.texts[rows.start : rows.stop] if isinstance(rows, range) else [self.texts[int(r)] for r in rows]
        return Batch(texts, rows, self.resolution, self.input_type, self.truncate_input)

    def given_index(self, row: int) -> int:
        """The first position in the caller's list of the text in this row."""
        return self.start + int(np.argmax(self.rows == row))

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
            sizes = [size + longer for size in sizes]
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
    sizes = [token_bound(text) + len(prompt.encode("utf-8")) for text in distinct]
    if packing.padded:
        order = sorted(range(len(distinct)), key=sizes.__getitem__)
        distinct, sizes = [distinct[i] for i in order], [sizes[i] for i in order]
    row_of = {text: row for row, text in enumerate(distinct)}
    rows = np.fromiter((row_of[text] for text in given), dtype=np.intp, count=len(given))
    prompted = [prompt + text for text in distinct] if prompt else distinct
    return Plan(spec, resolution, role, task, prompt, prompted, rows, truncate_input, packing, sizes, start)


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
    for index, text in enumerate(given, start):
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


def token_bound(text: str) -> int:
    """Tokens that a text cannot exceed: a tokenizer that works on bytes makes at most one of each."""
    return (len(text) if text.isascii() else len(text.encode("utf-8"))) + _PROMPT_ALLOWANCE


def _pack(sizes: Sequence[int], packing: Packing) -> Iterable[tuple[int, int]]:
    """Cuts a row of sizes into runs that keep the packing's bounds; one that is too large alone goes alone."""
    start = total = 0
    for i, size in enumerate(sizes):
        grown = size * (i - start + 1) if packing.padded else total + size
        full = i - start >= packing.max_inputs or (packing.max_tokens is not None and grown > packing.max_tokens)
        if full and i > start:
            yield start, i
            start, total = i, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)
