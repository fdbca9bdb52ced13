"""Quoting a server without giving away what it was sent: it may echo a text or a key in any answer."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Characters of a server's words that are quoted at most.
_MAX_QUOTE = 400

#: As many characters in a row that stand in a text, or in the key, are taken for an echo of it; a shorter one, whole.
_ECHO, _KEY_ECHO, _SHORTEST_ECHO = 16, 8, 4

#: A code or a model's name.
_WORD = re.compile(r"[\w./:@-]{1,80}")

#: A key by its beginning, or anything long and random: another's key, a token, a text in base64.
_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|pa|al)-[\w*-]+|(?=\S*[a-z])(?=\S*[A-Z])(?=\S*\d)[\w+/=-]{24,}")


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent, and must not come back in the words of an error."""

    texts: Sequence[str] = field(repr=False)
    key: str = field(repr=False)

    def quoted(self, message: str) -> str:
        """A server's words, cut to a line, without keys; nothing at all where they may echo what was sent."""
        line = " ".join(message.split())
        if _echoes(line, self.texts, _ECHO) or _echoes(line, [self.key], _KEY_ECHO):
            return ""
        line = _LOOKS_LIKE_A_KEY.sub("…", line[: 2 * _MAX_QUOTE])
        if len(line) > _MAX_QUOTE:
            line = line[:_MAX_QUOTE] + "…"
        return f": {line}" if line else ""

    def word(self, word: str | None) -> str | None:
        """A server's code, or its name for a model, where it is one: a word that echoes nothing."""
        if word is None or not _WORD.fullmatch(word) or _LOOKS_LIKE_A_KEY.search(word):
            return None
        # A text of one word, such as "quota", is a part of many codes.
        texts = [text for text in self.texts if len(text) >= _ECHO]
        return None if _echoes(word, texts, _ECHO) or _echoes(word, [self.key], _KEY_ECHO) else word


def _echoes(line: str, sent: Sequence[str], length: int) -> bool:
    """Whether a server's words may hold `length` characters of what was sent, or a shorter text whole."""
    # As much as is quoted, and what a key that is cut out of it may make room for.
    line = line[: 2 * _MAX_QUOTE].casefold()
    said = [" ".join(text.split()) for text in sent]
    # A server may shorten a text, or escape it as JSON or HTML does, so every stretch of its words is looked for.
    # Most texts are the same in all three, and are searched once: a request may hold megabytes.
    forms = {form for text in said for form in (text, json.dumps(text)[1:-1], html.escape(text))}
    haystack = "\n".join(forms).casefold()
    stretches = {line[i : i + length] for i in range(len(line) - length + 1)}
    return any(stretch in haystack for stretch in stretches) or any(
        text.casefold() in line for text in said if _SHORTEST_ECHO <= len(text) < length
    )
