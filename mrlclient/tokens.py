"""How many tokens a text has, without its tokenizer: estimated from its length, and put right by what servers count.

Pure. A tokenizer has to be downloaded, and takes half a microsecond a token; this takes one or two for a text.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Tokens that a provider may add to a text: its prompt and its special tokens.
PROMPT_ALLOWANCE = 32

#: Bytes above one a character from which a text is in other Latin than English, Vietnamese, or another script.
_LATIN, _VIETNAMESE, _OTHER = 0.015, 0.15, 0.5
#: Bytes a word from which ASCII is in no language: base64, numbers, JSON.
_LONG_WORDS = 9.0
#: Where scripts after Greek begin: Cyrillic, Hebrew and Arabic, India's, Southeast Asia's, East Asia's, emoji.
_SCRIPTS = "\u0400\u0590\u0900\u0e00\u1100\U00010000"
#: Characters at the end of a text that tell its script.
_TELLING = 16
#: Tokens a byte of each kind to begin with: above what five tokenizers made of prose and code in twelve languages.
_CAREFUL = (0.4, 0.45, 0.55, 0.75) + (0.6,) * (len(_SCRIPTS) + 1)
#: What is added to an estimate at least, and to begin with, as the logarithm of a factor.
_MARGIN, _FIRST_SPREAD = 0.03, 0.1
#: What is left of a spread after one more answer, where that answer was as expected.
_FADING = 0.9
#: How many answers the newest one is weighed against at most.
_MEMORY = 4.0
#: Tokens below which an answer teaches nothing: too few texts, and no bound is near.
_TOO_FEW = 256
#: Tokens a byte at least, whatever a server says: a wild answer costs a few halvings.
_LEAST = 0.05
#: How a size is widened again, for each answer after one that was refused.
_WIDENING = 1.05

#: Bytes of each kind: of one text, or of all the texts of a request.
Load: TypeAlias = Sequence[float]


def token_bound(text: str) -> int:
    """Tokens that a text cannot exceed: a tokenizer that works on bytes makes at most one of each."""
    return (len(text) if text.isascii() else len(text.encode("utf-8"))) + PROMPT_ALLOWANCE


def _kind(text: str, size: int) -> int:
    """Which kind a text of this many bytes is of."""
    excess = size / len(text) - 1.0
    if excess > _OTHER:
        return 4 + bisect_right(_SCRIPTS, max(text[-_TELLING:]))
    if excess > _LATIN:
        return 2 if excess > _VIETNAMESE else 1
    return 3 if size > _LONG_WORDS * (text.count(" ") + 1) else 0


class Sizes:
    """How large the texts of a plan are.

    Threads share it without a lock: what two of them work out at once is the same.

    Args:
        texts: The texts, prompt included.
        bounds: For each, tokens that it cannot exceed.
    """

    __slots__ = ("_kinds", "bounds", "texts")

    def __init__(self, texts: Sequence[str], bounds: Sequence[int]) -> None:
        self.texts = texts
        self.bounds = bounds
        self._kinds: NDArray[np.int8] | None = None

    def load(self, rows: range | NDArray[np.intp]) -> Load:
        """Bytes of each kind in these rows."""
        if len(rows) == 1:
            row = int(rows[0])
            load = [0.0] * len(_CAREFUL)
            size = self.bounds[row] - PROMPT_ALLOWANCE
            load[_kind(self.texts[row], size)] = float(size)
            return load
        sizes = np.array(self.bounds_of(rows)) - PROMPT_ALLOWANCE
        total: list[float] = np.bincount(self.kinds_of(rows), sizes, len(_CAREFUL)).tolist()
        return total

    def bounds_of(self, rows: range | NDArray[np.intp]) -> Sequence[int]:
        """The bounds of these rows."""
        bounds = self.bounds
        return bounds[rows.start : rows.stop] if isinstance(rows, range) else [bounds[row] for row in rows.tolist()]

    def kinds_of(self, rows: range | NDArray[np.intp]) -> NDArray[np.int8]:
        """The kinds of these rows."""
        kinds = self._kinds
        if kinds is None:
            sizes = (bound - PROMPT_ALLOWANCE for bound in self.bounds)
            kinds = self._kinds = np.fromiter(map(_kind, self.texts, sizes), dtype=np.int8, count=len(self.texts))
        return kinds[rows.start : rows.stop] if isinstance(rows, range) else kinds[rows]


@dataclass(frozen=True, slots=True)
class _Learned:
    """What was learned so far, replaced as a whole.

    Attributes:
        rates: Tokens a byte of each kind.
        weights: How many answers speak for each of them.
        spread: By how much answers exceeded what was expected, as the logarithm of a factor; it fades.
        share: Which part of the bounds is used: less than 1 for a while after a refusal.
        refused: What was refused last, as long as nothing explains why: b[k] / tokens allowed.
    """

    rates: tuple[float, ...] = _CAREFUL
    weights: tuple[float, ...] = (0.0,) * len(_CAREFUL)
    spread: float = _FIRST_SPREAD
    share: float = 1.0
    refused: Load | None = None

    def expected(self, load: Load) -> float:
        return sum(rate * size for rate, size in zip(self.rates, load, strict=True) if size)

    def careful(self) -> NDArray[np.float64]:
        return np.minimum(np.array(self.rates) * math.exp(_MARGIN + self.spread), 1.0)


@dataclass(slots=True, eq=False)
class TokenEstimator:
    """Estimates the tokens of a model, and learns from the usage of its answers.

    A text is of one of a few kinds, mostly scripts. A request of b[k] bytes of kind k is expected to have

        expected = sum of rate[k] * b[k]
        careful  = sum of min(rate[k] * exp(0.03 + spread), 1) * b[k]

    tokens. The first is what limits a minute are charged with, until the answer says what it was; by the second,
    batches are packed. The rates begin above what tokenizers make of ordinary text. Every answer moves the rates of the
    kinds in it towards used / expected, each by its share of the request: fully the first time, then by less, at least
    by a fifth, and by at least half where the answer was above what was expected. `spread` is the largest such excess
    seen of late, which fades by a tenth an answer.

    It is safe, for a wrong estimate loses nothing: a request that is too large is refused as a whole, and sent again in
    halves. Until the usage of those explains the refusal, only half of its size is packed; where it never does, for the
    bound was one that nobody knew of, that grows by 5 % with each answer. What cannot exceed a bound, at one token a
    byte, is never split for it.

    Threads share it without a lock, which a fork could catch closed: its state is replaced as a whole, and what a race
    costs is one answer's lesson.
    """

    _learned: _Learned = field(default_factory=_Learned)

    @property
    def share(self) -> float:
        """Which part of the bounds of a request is to be used."""
        return self._learned.share

    def expected(self, load: Load) -> float:
        """Tokens that a request is likely to have."""
        return self._learned.expected(load)

    def careful(self) -> NDArray[np.float64]:
        """Tokens a byte of each kind that are hardly exceeded."""
        return self._learned.careful()

    def learn(self, load: Load, used: int) -> None:
        """An answer came, and says how many tokens the request had."""
        learned = self._learned
        if used >= _TOO_FEW:
            learned = _taught(learned, load, used)
        if learned.refused is not None:
            if learned.careful() @ learned.refused > 1.0:
                # By what is known now, it was too large, and would not be packed again.
                learned = replace(learned, share=1.0, refused=None)
            else:
                share = min(learned.share * _WIDENING, 1.0)
                learned = replace(learned, share=share, refused=None if share == 1.0 else learned.refused)
        self._learned = learned

    def refused(self, load: Load, allowed: float | None, used: float) -> None:
        """A request was refused for its size.

        Args:
            load: What was in it.
            allowed: Tokens that were thought to be allowed; None for any number.
            used: Which part of all that was thought to be allowed it had.
        """
        learned = self._learned
        refused = [size / (allowed or math.inf) for size in load]
        self._learned = replace(learned, share=min(learned.share, used / 2), refused=refused)


def _taught(learned: _Learned, load: Load, used: int) -> _Learned:
    parts = [rate * size for rate, size in zip(learned.rates, load, strict=True)]
    expected = sum(parts)
    excess = math.log(used / expected)
    rates, weights, known = [], [], 0.0
    for rate, weight, part in zip(learned.rates, learned.weights, parts, strict=True):
        mine = part / expected
        gain = mine / (weight + mine) if mine else 0.0
        if excess > 0 and mine:
            gain = max(gain, 0.5)
        rates.append(min(max(rate * math.exp(excess * gain), _LEAST), 1.0))
        weights.append(min(weight + mine, _MEMORY))
        known += mine * min(weight, 1.0)
    # That an answer is not what was expected of a kind of which nothing was known says nothing about the spread.
    spread = max(excess * known, learned.spread * _FADING)
    return replace(learned, rates=tuple(rates), weights=tuple(weights), spread=spread)
