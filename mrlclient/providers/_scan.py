"""The fast way to read an answer: its vectors are cut out of the bytes, and only the small rest is parsed as JSON.

Each vector's text is replaced by `NaN`, which no JSON holds and which Python's parser takes wherever a value may stand.
Say that the rest parses, and that every `NaN` in it is the `embedding` of an item of `data`. Then the parser wanted a
value at each cut. There, in the body, it finds a string of the base64 alphabet or an array of numbers (whoever decodes
a cut checks that), takes it, and goes on in the same state. So the body parses as well, to the same with the vectors in
place.

Whatever does not fit leads to None, and to the plain parser. Nothing is accepted here that it would refuse.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeAlias

from mrlclient.providers._json import UnusableError, object_once
from mrlclient.providers._numbers import NumberList, number_parser

_EMBEDDING = re.compile(rb'"embedding"[ \t\n\r]*:[ \t\n\r]*(["\[])')
_NUMBER = re.compile(rb"([0-9]+)")
_QUOTE = ord('"')

#: An embedding that is still unread: base64 or numbers. What it holds is for `row_bytes` to check.
Cut: TypeAlias = memoryview | NumberList


def scan(body: bytes | bytearray) -> dict[str, Any] | None:
    """The answer in a body, with a cut as each item's embedding; None where that is not sure."""
    cut = _cut(body, len(body))
    if cut is None:
        return None
    pieces, embeddings, end = cut
    answer = _parse([*pieces, body[end:]])
    if answer is None or len(answer["data"]) != len(embeddings):
        return None
    for item, embedding in zip(answer["data"], embeddings, strict=True):
        item["embedding"] = embedding
    return answer


def scan_in_order(body: bytes | bytearray, count: int) -> tuple[dict[str, Any], list[Cut]] | None:
    """The same for so many vectors in base64 between which there is always the same text, but for the index.

    Only the first three are parsed; the text between two of the others is compared. Say that between the first ones
    there is one number each, 1 and 2 (or 0 and 1), and nothing else changes. The second item is made of those texts
    alone. If its index is 1, then that number is the index, and each item up to the last is like it, but for its index.

    Returns:
        The answer with three items, and all embeddings in the order of their indexes; None where that is not sure.
    """
    cut = _cut(body, 3) if count > 3 else None
    if cut is None or len(cut[1]) < 3:
        return None
    pieces, embeddings, end = cut
    between = _NUMBER.split(pieces[1])
    if len(between) != 3 or between[1] not in (b"0", b"1"):
        return None
    before, first, after = between
    shift = int(first) - 1
    if pieces[2] != b"%b%d%b" % (before, 2 + shift, after):
        return None
    view, length = memoryview(body), len(embeddings[2])
    text = b"%b%%d%b" % (before.replace(b"%", b"%%"), after.replace(b"%", b"%%") + b'"')
    while len(embeddings) < count:
        # As long as the numbers have as many digits, the vectors are equally far apart.
        number = len(embeddings) + shift
        width = len(text % number)
        many = min(count - len(embeddings), 10 ** len(str(number)) - number)
        step = width + length + 1
        starts = range(end, end + many * step, step)
        texts = b"".join([body[start : start + width] for start in starts])
        quotes = body[end + step - 1 : starts.stop : step]
        if texts != text * many % tuple(range(number, number + many)) or quotes != b'"' * many:
            return None
        embeddings += [view[start + width : start + width + length] for start in starts]
        end = starts.stop
    answer = _parse([*pieces, body[end:]])
    if answer is None:
        return None
    indexes = [item.get("index") for item in answer["data"]]
    if indexes != [0, 1, count - 1 if shift else 2] or set(map(type, indexes)) != {int}:
        return None
    return answer, embeddings


def _cut(body: bytes | bytearray, most: int) -> tuple[list[bytes | bytearray], list[Cut], int] | None:
    """Cuts out so many vectors at most.

    Returns:
        The text before each, the vectors, and where the last one ends; None where there is none, or one without an end.
    """
    view, find = memoryview(body), _EMBEDDING.search
    parser = None
    pieces: list[bytes | bytearray] = []
    embeddings: list[Cut] = []
    kept = length = 0
    while len(pieces) < most and (match := find(body, kept)) is not None:
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
    return (pieces, embeddings, kept) if pieces else None


def _parse(pieces: list[bytes | bytearray]) -> dict[str, Any] | None:
    """The answer that stands in the text around vectors, NaN in place of each; None where something else comes out."""
    rest = b"NaN".join(pieces)
    if rest.count(b"NaN") != len(pieces) - 1 or b"Infinity" in rest:
        return None
    try:
        text = rest.decode("utf-8")
        answer: dict[str, Any] = json.loads(text)
        data = answer["data"]
        # Only NaN differs from itself.
        if type(data) is not list or not all(item["embedding"] != item["embedding"] for item in data):
            return None
        # Every member has a colon of its own, so where there are no more colons than members, no name stood twice.
        usage = answer.get("usage")
        members = len(answer) + sum(map(len, data)) + (len(usage) if isinstance(usage, dict) else 0)
        if text.count(":") > members:
            answer = json.loads(text, object_pairs_hook=object_once)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, UnusableError):
        return None
    return answer
