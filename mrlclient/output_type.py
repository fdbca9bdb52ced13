"""What type the numbers of a result are wanted in, beside the floats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

from mrlclient._codes import SCALED, DType, Quantization, check_dtype, code_width
from mrlclient._ranges import MIN_SAMPLE, Ranges, calibrate, check_ranges
from mrlclient.errors import ConfigurationError

if TYPE_CHECKING:
    from mrlclient.result import EmbeddingResult


@dataclass(frozen=True, slots=True)
class OutputType:
    """A type, who makes it, and its ranges where they are known.

    Attributes:
        dtype: The type.
        ranges: For int8 and uint8; None where they are to be found with the texts of a call, or are the server's.
        quantization: Whether vectors are quantised here, or sent so.
    """

    dtype: DType = "float32"
    ranges: Ranges | None = None
    quantization: Quantization = "client"

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        if self.quantization not in get_args(Quantization):
            raise ConfigurationError(f"quantization must be 'client' or 'server', not {self.quantization!r}.")
        if self.quantization == "server" and self.dtype == "float32":
            raise ConfigurationError("quantization='server' needs a type that the server makes, such as dtype='int8'.")
        if self.quantization == "server" and self.ranges is not None:
            raise ConfigurationError(
                "ranges= are for codes that are made here: the server has its own. Leave ranges out, or "
                "quantization='server'."
            )
        if self.ranges is not None:
            check_ranges(self.dtype, self.ranges.dimensions if isinstance(self.ranges, Ranges) else 1, self.ranges)

    @property
    def needs_ranges(self) -> bool:
        """Whether they are not known yet."""
        return self.dtype in SCALED and self.ranges is None and self.quantization == "client"

    @property
    def asked(self) -> DType:
        """What the provider is asked for."""
        return self.dtype if self.quantization == "server" else "float32"

    def override(
        self, dtype: DType | None, ranges: Ranges | None, quantization: Quantization | None = None
    ) -> OutputType:
        """The same, but for what a call says itself."""
        if ranges is None and dtype in (None, self.dtype) and quantization in (None, self.quantization):
            return self
        wanted = self.dtype if dtype is None else check_dtype(dtype)
        if quantization is None:
            quantization = "client" if wanted == "float32" else self.quantization
        if ranges is None and wanted in SCALED and quantization == "client":
            ranges = self.ranges
        return OutputType(wanted, ranges, quantization)

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
        if self.dtype == "float32" or self.quantization == "server":
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
