"""What a cache is asked with and answers with: keys, entries, and what was found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Told apart from every other use of the hash, and from keys of another make.
_PERSON = b"mrlclient key 1"


class KeyMaker:
    """Makes keys for texts that share everything but the text.

    A key is BLAKE2b-256 (RFC 7693), keyed with the cache's secret, so that a short text cannot be guessed from its key.
    The fields go in with their number and their lengths before them, so no two lists of fields look alike.

    Args:
        secret: 16 to 64 bytes.
        fields: Origin, model, revision, role, prompt, recipe: whatever else decides the vector.
    """

    def __init__(self, secret: bytes, fields: Sequence[str]) -> None:
        self._context = hashlib.blake2b(key=secret, digest_size=32, person=_PERSON)
        self._context.update(len(fields).to_bytes(8, "little"))
        for value in fields:
            encoded = value.encode("utf-8")
            self._context.update(len(encoded).to_bytes(8, "little"))
            self._context.update(encoded)

    def key(self, text: str) -> bytes:
        """The 32 bytes for a text."""
        # The context was hashed once; a copy of it costs less than a field.
        hashed = self._context.copy()
        hashed.update(text.encode("utf-8"))
        return hashed.digest()

    def keys(self, texts: Iterable[str]) -> list[bytes]:
        """The keys of many texts."""
        return [self.key(text) for text in texts]


@dataclass(frozen=True, slots=True)
class Entry:
    """A vector to keep.

    Attributes:
        key: 32 bytes, made by `KeyMaker`. It holds neither the text nor the width.
        vector: (w,) float32, as the provider sent it: not cut, not scaled.
        model: The model as the catalogue names it, `provider:name`; for people to read.
        tokens: Tokens that this text took; a share of its request's, where the provider counts requests.
        usd: What those tokens cost, in USD.
        created: Seconds since 1970; 0 for now.
    """

    key: bytes
    vector: NDArray[np.float32] = field(repr=False)
    model: str = ""
    tokens: float = 0.0
    usd: float = 0.0
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a cache had.

    Attributes:
        mask: (n,) bool, true for each key whose row was written.
        tokens: Tokens that the rows found had taken, summed.
        usd: What those had cost, in USD.
    """

    mask: NDArray[np.bool_]
    tokens: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """What came of a look into a cache: the keys, or None where it failed, and what was found."""

    keys: list[bytes] | None
    found: Found
