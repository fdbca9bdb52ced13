"""The fast way to read an answer: its vectors are cut out of the bytes, and only the small rest is parsed as JSON.

Each vector's text is replaced by `NaN`, which no JSON holds and which Python's parser takes wherever a value may stand.
Say that the rest parses, and that every `NaN` in it is the `embedding` of an item. Then the parser wanted a value at
each cut. There, in the body, it finds a string of the base64 alphabet or an array of numbers (whoever decodes a cut
checks that), takes it, and goes on in the same state. So the body parses as well, to the same with the vectors in place.

Whatever does not fit leads to None, and to the plain parser. Nothing is accepted here that it would refuse.
"""

from __future__ import annotations

import json
import re
from typing import Any

from mrlclient.providers._json import UnusableError, object_once
from mrlclient.providers._numbers import NumberList, number_parser

_EMBEDDING = re.compile(rb'"embedding"[ \t\n\r]*:[ \t\n\r]*(["\[])')
_QUOTE = ord('"')


def scan(body: bytes) -> dict[str, Any] | None:
    """The answer in a body, its embeddings as `memoryview` of base64 or as `NumberList`; None where that is not sure.

    A cut is unread: what it holds is for `float32_bytes` to check.
    """
    cut = _cut(body)
    if cut is None:
        return None
    rest, embeddings = cut
    if rest.count(b"NaN") != len(embeddings) or b"Infinity" in rest:
        return None
    try:
        answer = _parse(rest.decode("utf-8"))
        data = answer["data"]
        if not isinstance(data, list) or len(data) != len(embeddings):
            return None
        for item, embedding in zip(data, embeddings, strict=True):
            placeholder = item["embedding"]
            # Only NaN differs from itself.
            if placeholder == placeholder:  # noqa: PLR0124
                return None
            item["embedding"] = embedding
    except (ValueError, LookupError, TypeError, RecursionError, UnusableError):
        return None
    return answer


def _cut(body: bytes) -> tuple[bytes, list[memoryview | NumberList]] | None:
    """What is left of a body without its vectors, and these; None where there is none to cut, or one without an end."""
    view, find = memoryview(body), _EMBEDDING.search
    parser = None
    pieces: list[bytes] = []
    embeddings: list[memoryview | NumberList] = []
    kept = length = 0
    while (match := find(body, kept)) is not None:
        start = match.end()
        if body[start - 1] == _QUOTE:
            # Vectors of one width have one length.
            end = start + length
            if body[end : end + 1] != b'"':
                end = body.find(b'"', start)
                length = end - start
            embeddings.append(view[start:end])
        else:
            parser = parser or number_parser()
            end = -1 if parser is None else body.find(b"]", start)
            embeddings.append(NumberList(parser, view[start - 1 : end + 1]))
        if end < 0:
            return None
        pieces.append(body[kept : start - 1])
        kept = end + 1
    if not embeddings:
        return None
    pieces.append(body[kept:])
    return b"NaN".join(pieces), embeddings


def _parse(text: str) -> Any:
    """What json makes of a text whose constants were counted already; a name that stands twice is an error."""
    answer = json.loads(text)
    # Every member has a colon of its own, so where there are no more colons than members, no member was lost.
    members = len(answer) + sum(map(len, answer["data"]))
    if isinstance(usage := answer.get("usage"), dict):
        members += len(usage)
    if text.count(":") == members:
        return answer
    return json.loads(text, object_pairs_hook=object_once)
