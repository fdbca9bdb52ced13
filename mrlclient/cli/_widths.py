"""Widths on the command line."""

from __future__ import annotations

import re

from mrlclient.errors import ConfigurationError


def widths_in(value: str | None, option: str = "--dimensions") -> list[int] | None:
    """The widths in `"64,256"`, widest first.

    Raises:
        ConfigurationError: If it is something else.
    """
    if value is None:
        return None
    # int() alone would also take 1_0, and the digits of every script.
    if not re.fullmatch(r" *[0-9]{1,9} *(, *[0-9]{1,9} *)*", value):
        raise ConfigurationError(f"{option} takes whole numbers with commas between them, such as 64,256.")
    return sorted({int(part) for part in value.split(",")}, reverse=True)
