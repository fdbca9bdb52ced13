"""What an embedding call returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mrlclient._warn import warn_user
from mrlclient.dimensions import OnNarrow, Reduction, check_width, narrowness
from mrlclient.errors import ConfigurationError, DimensionsOutOfRangeError, MRLError, NarrowDimensionsWarning
from mrlclient.models import InputType, ModelSpec, Task
from mrlclient.vectors import truncate_dimensions, unusable_rows

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from mrlclient.quantize import Quantized


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call cost.

    Attributes:
        tokens: Tokens that the provider counted; None if it did not say.
        usd: Price of those tokens in USD, at the list prices of the models that answered; None if either is unknown.
        cached_texts: Distinct texts that were not paid for: from the cache, or requested by another call at the same
            time.
        cached_tokens: Tokens that the texts from the cache had taken, approximately.
        saved_usd: What those tokens had cost, in USD.
    """

    tokens: int | None
    usd: float | None
    cached_texts: int = 0
    cached_tokens: float = 0.0
    saved_usd: float = 0.0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EmbeddingResult:
    """The embeddings of some texts, in their order.

    It has a length, iterates over rows, and can be indexed; `numpy.asarray(result)` returns the matrix.

    Attributes:
        floats: As `embeddings`; None if the server sent codes.
        reduction: Where the vectors were truncated: `"native"` (nowhere, full width), `"server"` or `"client"`.
        input_type: The input type that the texts were embedded with; None if none was given and the model assumes none.
        task: The task that they were embedded for, if one was given.
        usage: Tokens and price.
        notes: What the server ignored and was corrected here; empty if everything went as requested.
        answered_by: Who answered, and for how many texts: `"openai:text-embedding-3-small at https://…"`. Texts from a
            cache are not counted.
        errors: The positions of the texts that could not be embedded, and why. Their rows are NaN; in a server's codes
            they are 0, which no vector's are. Empty unless the call was made with `on_error="return"`, or this is the
            `partial` of an error.
        spec: The requested model; another of its space may have answered.
        on_narrow: What `at` does about a width narrower than the authors evaluated.
        quantized: The embeddings in fewer bytes, if the call asked for another `dtype` than float32: their codes, and
            what those stand for. If the server made them (`quantization="server"`), there is nothing else.
    """

    floats: NDArray[np.float32] | None
    spec: ModelSpec
    reduction: Reduction
    input_type: InputType | None
    task: Task | None
    usage: Usage
    notes: tuple[str, ...] = ()
    answered_by: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[int, MRLError] = field(default_factory=dict)
    on_narrow: OnNarrow = "warn"
    quantized: Quantized | None = None

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """(n, d) float32, C-contiguous, rows of unit length, or NaN for the texts in `errors`; d is the widest width.

        Raises:
            ConfigurationError: If the server sent codes: use `quantized`.
        """
        if self.floats is None:
            codes = self._codes
            raise ConfigurationError(
                f"This result holds no floats: the server sent {codes.dtype}. result.quantized has its codes"
                + (", and mrlclient.quantize.dequantize the floats that they stand for" if codes.is_known else "")
                + ". To have floats, and codes made of them, embed without quantization='server'."
            )
        return self.floats

    @property
    def dimensions(self) -> int:
        """The width of the embeddings."""
        return self._codes.dimensions if self.floats is None else int(self.floats.shape[1])

    @property
    def model(self) -> str:
        """The model's name, without the provider."""
        return self.spec.name

    @property
    def provider(self) -> str:
        """The provider's name, such as `"openai"`."""
        return self.spec.provider

    @property
    def space(self) -> str:
        """Two vectors can be compared only if their `space` is equal.

        A server's int8 and uint8 have a space of their own for each model and width: what they stand for is not
        documented, so they can be compared with nothing else.
        """
        if self.floats is None and not self._codes.is_known:
            return f"{self.spec.provider}/{self.spec.name}/{self._codes.dtype}/{self.dimensions}"
        return self.spec.space

    def at(self, dimensions: int) -> NDArray[np.float32]:
        """The same embeddings at another width, without a request.

        Args:
            dimensions: 1 to `self.dimensions`.

        Returns:
            (n, dimensions) float32, C-contiguous, unit rows. At the full width of this result, `embeddings` itself.
            Rows of texts that could not be embedded are NaN.

        Raises:
            NotMatryoshkaError: If the model must not be truncated.
            DimensionsOutOfRangeError: If it is not a width, or wider than this result.
            ConfigurationError: If the server sent codes. Use `result.quantized.at`, which truncates bits.
        """
        width = check_width(self.spec, dimensions)
        if width > self.dimensions:
            raise DimensionsOutOfRangeError(
                f"This result holds {self.dimensions} dimensions, not {width}. "
                f"Embed again with dimensions={width}, or with dimensions=[{self.dimensions}, {width}] to have both.",
                model=self.spec.address,
                dimensions=width,
                native_dimensions=self.spec.native_dimensions,
            )
        if self.floats is None:
            self._codes.at(width)  # which says why, where they cannot be cut
        if width == self.dimensions:
            return self.embeddings
        check_narrow(self.spec, width, self.on_narrow)
        cut = truncate_dimensions(self.embeddings, width)
        bad = next(((row, why) for row, why in unusable_rows(cut).items() if row not in self.errors), None)
        if bad is not None:
            raise DimensionsOutOfRangeError(
                f"Row {bad[0]} is {bad[1]} in its first {width} dimensions: it has no direction there. Take more.",
                model=self.spec.address,
                dimensions=width,
                native_dimensions=self.spec.native_dimensions,
            )
        return cut

    def __repr__(self) -> str:
        return (
            f"EmbeddingResult({len(self)} × {self.dimensions}, model={self.spec.address!r}, "
            f"reduction={self.reduction!r}, input_type={self.input_type!r}, usage={self.usage}"
            + (f", quantized={self.quantized.dtype}" if self.quantized is not None else "")
            + (f", errors={len(self.errors)})" if self.errors else ")")
        )

    @property
    def _codes(self) -> Quantized:
        assert self.quantized is not None, "there is nothing that it could hold"
        return self.quantized

    def __len__(self) -> int:
        return len(self._codes if self.floats is None else self.floats)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.embeddings)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, index: slice) -> NDArray[np.float32]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self.embeddings[index]
        return row

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.embeddings, dtype=dtype, copy=copy)


def check_narrow(spec: ModelSpec, dimensions: int, on_narrow: OnNarrow) -> None:
    """Warns or raises, as `on_narrow` says, where `dimensions` is narrower than the authors evaluated.

    Raises:
        DimensionsOutOfRangeError: If `on_narrow` is `"error"` and the width is that narrow.
    """
    problem = None if on_narrow == "allow" else narrowness(spec, dimensions)
    if problem is None:
        return
    if on_narrow == "error":
        raise DimensionsOutOfRangeError(
            problem, model=spec.address, dimensions=dimensions, native_dimensions=spec.native_dimensions
        )
    warn_user(problem, NarrowDimensionsWarning)
