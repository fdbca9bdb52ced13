"""Counting tokens exactly, where a tokenizer is given by the caller or found on this disk. None is downloaded."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from mrlclient.errors import ConfigurationError

#: Tokens of each text.
TokenCounter: TypeAlias = Callable[[Sequence[str]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """An encoding of `tiktoken`, as its package describes it.

    Attributes:
        name: Its name.
        url: Where the package downloads it from; the name of its file on disk is the SHA-1 of that.
        sha256: The checksum of the file.
        pattern: What texts are split by first.
    """

    name: str
    url: str
    sha256: str
    pattern: str


#: tiktoken 0.13, tiktoken_ext/openai_public.py.
CL100K_BASE = Vocabulary(
    "cl100k_base",
    "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"""
    r"""\s*[\r\n]|\s+(?!\S)|\s""",
)


def find_counter(vocabulary: Vocabulary) -> TokenCounter | None:
    """A counter for an encoding whose file `tiktoken` has downloaded before; None where there is no such file.

    It reads the file itself: left to the package, a file that is damaged or has gone would be downloaded.
    """
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder == "":
        # To tiktoken that means no cache.
        return None
    place = Path(tempfile.gettempdir(), "data-gym-cache") if folder is None else Path(folder)
    try:
        data = (place / hashlib.sha1(vocabulary.url.encode(), usedforsecurity=False).hexdigest()).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != vocabulary.sha256 or find_spec("tiktoken") is None:
        return None
    return _Tiktoken(vocabulary, data)


class _Tiktoken:
    """Counts with an encoding, made when it is first needed: that takes a few tenths of a second."""

    def __init__(self, vocabulary: Vocabulary, data: bytes) -> None:
        self._vocabulary, self._data = vocabulary, data
        self._encode: Callable[[str], Sequence[int]] | None = None

    def __call__(self, texts: Sequence[str]) -> list[int]:
        # Two threads may both make one; they are the same.
        encode = self._encode = self._encode or self._make()
        return [len(encode(text)) for text in texts]

    def _make(self) -> Callable[[str], Sequence[int]]:
        import tiktoken

        lines = (line.split() for line in self._data.splitlines() if line)
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
        name, pattern = self._vocabulary.name, self._vocabulary.pattern
        return tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}).encode_ordinary


def checked_counts(count: TokenCounter, texts: Sequence[str]) -> list[int]:
    """What a counter says, which may be anybody's code.

    Raises:
        ConfigurationError: If it fails, or does not say one number for each text.
    """
    counts, problem = list[int](), ""
    try:
        counts = list(count(texts))
    except Exception as error:
        # Its message may hold a text.
        problem = f"failed with {type(error).__name__}"
    if not problem and len(counts) != len(texts):
        problem = f"gave {len(counts)} numbers for {len(texts)} texts"
    if not problem and not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
        problem = "gave something else than integers from 0 on"
    if problem:
        raise ConfigurationError(f"count_tokens {problem}. It takes a list of texts, and returns the tokens of each.")
    return counts
