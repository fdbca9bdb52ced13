"""Warnings that point at the user's line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

#: With the separator at its end, so that a neighbour whose name begins like ours is not taken for a part of it.
PACKAGE = str(Path(__file__).parent / "_")[:-1]


def warn_user(message: str, category: type[Warning]) -> None:
    """Warns at the innermost frame outside this package, so that the warning names the caller's own line."""
    level = 1
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)
