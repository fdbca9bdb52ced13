"""How batches are cut: by number, by tokens, by bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mrlclient.tokens import PROMPT_ALLOWANCE, Load, Sizes, TokenEstimator

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

    def stops(
        self, sizes: Sizes, rows: range | NDArray[np.intp], width: int, estimator: TokenEstimator
    ) -> Iterator[int]:
        """Where batches of these rows end, each decided when it is asked for.

        Args:
            sizes: How large all texts are.
            rows: Those that are to be packed, in this order.
            width: Dimensions of the vectors that will come.
            estimator: What is known of the model's tokens by then.
        """
        count = len(rows)
        most = self.most_inputs(width)
        if count <= 1:
            yield from range(1, count + 1)
            return
        bounds = sizes.bounds_of(rows)
        if self.padded:
            yield from self._padded_stops(bounds)
            return
        # Sums up to each row, so that a batch is found by a search.
        surely = np.cumsum([0, *bounds])
        kinds: NDArray[np.int8] | None = None
        start = 0
        while start < count:
            share = estimator.share
            stop = min(start + most, count, _reach(surely, start, self.max_request_bytes, share))
            if self.max_tokens is not None and surely[stop] - surely[start] > self.max_tokens * share:
                if self.estimated:
                    kinds = sizes.kinds_of(rows) if kinds is None else kinds
                    lengths = np.diff(surely[start : stop + 1]) - PROMPT_ALLOWANCE
                    tokens = lengths * estimator.careful()[kinds[start:stop]]
                    likely = np.concatenate([[0.0], np.cumsum(tokens)])
                    reached = start + _reach(likely, 0, self.max_tokens, share)
                else:
                    reached = _reach(surely, start, self.max_tokens, share)
                stop = min(stop, reached)
            start = max(stop, start + 1)
            yield start

    def _padded_stops(self, sizes: Sequence[int]) -> Iterator[int]:
        """Where batches end that are computed as rectangles: they come sorted, so the last text is the longest."""
        start = 0
        for i, size in enumerate(sizes):
            grown = size * (i - start + 1)
            full = i - start >= self.max_inputs or (self.max_tokens is not None and grown > self.max_tokens)
            if full and i > start:
                yield i
                start = i
        if start < len(sizes):
            yield len(sizes)

    def was_refused(self, load: Load, estimator: TokenEstimator) -> None:
        """Tells the estimator that a batch of this load was refused for its size."""
        parts = list[float]()
        if self.max_tokens is not None:
            parts.append(float(estimator.careful() @ load) / self.max_tokens)
        if self.max_request_bytes is not None:
            parts.append(sum(load) / self.max_request_bytes)
        estimator.refused(load, self.max_tokens, max(parts, default=1.0))


def _reach(sums: NDArray[np.float64] | NDArray[np.intp], start: int, bound: int | None, share: float) -> int:
    """How far a batch gets from a row on within a bound."""
    if bound is None:
        return len(sums) - 1
    return int(np.searchsorted(sums, sums[start] + bound * share, side="right")) - 1
