"""Counting tokens exactly, where a tokenizer is given by the caller or found on this disk. None is downloaded."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from mrlclient.errors import ConfigurationError, MRLError

#: Tokens of each text.
TokenCounter: TypeAlias = Callable[[Sequence[str]], Sequence[int]]


class Counter:
    """Counts the tokens of a model's texts: with what the caller gave, or with what this disk has.

    Args:
        given: The caller's own, which may be anybody's code.
        tokenizer: What `ModelSpec.tokenizer` says. It is looked for when it is first needed, which it seldom is.

    Raises:
        ConfigurationError: If the caller's is no function.
    """

    def __init__(self, given: TokenCounter | None, tokenizer: str | None) -> None:
        if not (given is None or callable(given)):
            raise ConfigurationError("count_tokens must be a function from a list of texts to the tokens of each.")
        self._count, self._tokenizer = given, tokenizer

    @property
    def is_there(self) -> bool:
        """Whether it can count."""
        tokenizer = self._tokenizer
        if self._count is None and tokenizer is not None:
            # Two threads may both look; they find the same.
            self._count = find_counter(tokenizer)
            self._tokenizer = None
        return self._count is not None

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text.

        Raises:
            ConfigurationError: If the function fails, or does not say one number for each text.
        """
        assert self.is_there
        assert self._count is not None
        counts, problem = list[int](), ""
        try:
            counts = list(self._count(texts))
        except MRLError:
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and not _is_panic(error):
                raise
            # Its message may hold a text.
            problem = f"failed with {type(error).__name__}"
        if not problem and len(counts) != len(texts):
            problem = f"gave {len(counts)} numbers for {len(texts)} texts"
        if not problem and not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
            problem = "gave something else than integers from 0 on"
        if problem:
            raise ConfigurationError(
                f"count_tokens {problem}. It takes a list of texts, and returns the tokens of each."
            )
        return counts


def find_counter(tokenizer: str) -> TokenCounter | None:
    """A counter for what `ModelSpec.tokenizer` says; None where its file, or the package that reads it, is not here."""
    kind, _, name = tokenizer.partition(":")
    return _find_vocabulary(VOCABULARIES[name]) if kind == "tiktoken" else _find_on_hub(name)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """An encoding of `tiktoken`, as its package describes it.

    Attributes:
        url: Where the package downloads it from; the name of its file on disk is the SHA-1 of that.
        sha256: The checksum of the file.
        pattern: What texts are split by first.
    """

    url: str
    sha256: str
    pattern: str


#: By name. tiktoken 0.14, tiktoken_ext/openai_public.py.
VOCABULARIES = {
    "cl100k_base": Vocabulary(
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"""
        r"""\s*[\r\n]|\s+(?!\S)|\s""",
    )
}


def _find_vocabulary(vocabulary: Vocabulary) -> TokenCounter | None:
    """A counter for an encoding whose file `tiktoken` has downloaded before.

    It reads the file itself: left to the package, a file that is damaged or has gone would be downloaded.
    """
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder == "" or find_spec("tiktoken") is None:
        # To tiktoken an empty name means no cache.
        return None
    place = Path(tempfile.gettempdir(), "data-gym-cache") if folder is None else Path(folder)
    try:
        data = (place / hashlib.sha1(vocabulary.url.encode(), usedforsecurity=False).hexdigest()).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != vocabulary.sha256:
        return None
    return _Lazy(partial(_load_vocabulary, vocabulary.pattern, data))


def _load_vocabulary(pattern: str, data: bytes) -> TokenCounter:
    import tiktoken

    lines = (line.split() for line in data.splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    encode = tiktoken.Encoding("", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}).encode_ordinary

    def count(text: str) -> int:
        try:
            return len(encode(text))
        except BaseException as error:
            if not _is_panic(error):
                raise
            # As on a million blanks in a row. Whether that is too long is left to the server.
            return 0

    return lambda texts: list(map(count, texts))


def _find_on_hub(repository: str) -> TokenCounter | None:
    """A counter for a repository whose `tokenizer.json` is in the hub's cache, as the vendor's own client counts."""
    if find_spec("tokenizers") is None:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(repository, "tokenizer.json")
    except (ImportError, OSError):
        return None
    return _Lazy(partial(_load_from_hub, path)) if isinstance(path, str) else None


def _load_from_hub(path: str) -> TokenCounter:
    from tokenizers import Tokenizer

    tokenizer = None
    with contextlib.suppress(Exception):
        tokenizer = Tokenizer.from_file(path)
    if tokenizer is None:
        raise ConfigurationError(f"{path} is damaged. Delete it: texts are then counted by the server alone.")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [len(encoding) for encoding in tokenizer.encode_batch(list(texts))]


class _Lazy:
    """A counter that is loaded when it is first needed: that takes a few tenths of a second."""

    def __init__(self, load: Callable[[], TokenCounter]) -> None:
        self._load = load
        self._count: TokenCounter | None = None

    def __call__(self, texts: Sequence[str]) -> Sequence[int]:
        # Two threads may both load one; they are the same.
        count = self._count = self._count or self._load()
        return count(texts)


def _is_panic(error: BaseException) -> bool:
    """Whether code in Rust gave up: that is no `Exception`, and its class is in no module."""
    return type(error).__name__ == "PanicException"
