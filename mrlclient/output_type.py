"""What type the numbers of a result are wanted in, beside the floats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mrlclient._codes import SCALED, DType, check_dtype, code_width
from mrlclient._ranges import MIN_SAMPLE, Ranges, calibrate, check_ranges
from mrlclient.errors import ConfigurationError

if TYPE_CHECKING:
    from mrlclient.result import EmbeddingResult


@dataclass(frozen=True, slots=True)
class OutputType:
    """A type, and its ranges where they are known.

    Attributes:
        dtype: The type.
        ranges: For int8 and uint8; None where they are to be found with the texts of a call.
    """

    dtype: DType = "float32"
    ranges: Ranges | None = None

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        if self.ranges is not None:
            check_ranges(self.dtype, self.ranges.dimensions if isinstance(self.ranges, Ranges) else 1, self.ranges)

    @property
    def needs_ranges(self) -> bool:
        """Whether they are not known yet."""
        return self.dtype in SCALED and self.ranges is None

    def override(self, dtype: DType | None, ranges: Ranges | None) -> OutputType:
        """The same, but for what a call says itself."""
        if ranges is None and dtype in (None, self.dtype):
            return self
        wanted = self.dtype if dtype is None else check_dtype(dtype)
        if ranges is None and wanted in SCALED:
            ranges = self.ranges
        return OutputType(wanted, ranges)

    def check(self, dimensions: int) -> None:
        """Refuses a width that the type or the ranges are not for.

        Raises:
            ConfigurationError: If the ranges are of another width.
            DimensionsOutOfRangeError: If it is no multiple of 8, which binary needs.
        """
        code_width(self.dtype, dimensions)
        if self.ranges is not None:
            check_ranges(self.dtype, dimensions, self.ranges)

    def check_errors(self, on_error: str) -> None:
        """Refuses to return what could be had, where nothing can stand for what could not.

        Raises:
            ConfigurationError: If that is wanted.
        """
        if self.dtype != "float32" and on_error == "return":
            raise ConfigurationError(
                f"{self.dtype} has nothing to stand for a text that could not be embedded, as NaN does in floats. With "
                f"on_error='return' take dtype='float32', and quantize the rows that came: mrlclient.quantize."
            )

    def check_texts(self, texts: int) -> None:
        """Refuses to find ranges with too few different texts.

        Raises:
            ConfigurationError: If they are too few.
        """
        if self.needs_ranges and texts < MIN_SAMPLE:
            raise ConfigurationError(
                f"{self.dtype} needs ranges, and {texts} different texts are too few to find them with: take "
                f"{MIN_SAMPLE} or more, or pass ranges=calibrate(vectors), once for all calls, with vectors of texts "
                f"like these. mrlclient.quantize has calibrate."
            )

    def added_to(self, result: EmbeddingResult) -> EmbeddingResult:
        """The result, with its embeddings in this type too.

        Raises:
            ConfigurationError: If too few of its vectors are different, so that ranges cannot be found with them. It
                has the result as its `partial`.
        """
        if self.dtype == "float32":
            return result
        # Imported here: a process that takes floats does without it.
        from mrlclient.quantize import quantize

        try:
            ranges = calibrate(result.embeddings) if self.needs_ranges else self.ranges
            return replace(result, quantized=quantize(result.embeddings, self.dtype, ranges))
        except ConfigurationError as error:
            # Different texts may have equal vectors. They are paid for.
            error.partial = result
            raise


#: Nothing beside the floats.
FLOATS = OutputType()
