"""Errors and warnings as one line each on stderr."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from mrlclient.errors import MRLError, NarrowDimensionsWarning, ServerBehaviorWarning

#: Exit statuses.
BROKEN, REFUSED = 1, 2


def tell_error(error: Exception, *, debug: bool) -> int:
    """Says on stderr what went wrong and what to do about it.

    Returns:
        The exit status: 2 where the user can put it right, 1 where the fault is in the program.
    """
    if debug:
        traceback.print_exception(error)
    message = _message(error)
    status = REFUSED if message else BROKEN
    if not message:
        # What another error says is not shown: it may quote a text.
        message = f"unexpected {type(error).__name__}, a fault in mrlclient. Run it again with --debug to see where."
    _tell("error", message)
    return status


@contextmanager
def warnings_on_one_line() -> Iterator[None]:
    """Within it, warnings of ours are one line on stderr, each said once. Others stay as Python shows them."""
    told: set[str] = set()

    with warnings.catch_warnings():
        otherwise = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, NarrowDimensionsWarning | ServerBehaviorWarning):
                otherwise(message, category, filename, lineno, file, line)
            elif str(message) not in told:
                told.add(str(message))
                _tell("warning", str(message))

        warnings.showwarning = show
        for kind in (NarrowDimensionsWarning, ServerBehaviorWarning):
            warnings.simplefilter("always", kind)
        yield


def _message(error: Exception) -> str:
    """What to tell; nothing for an error that nobody planned."""
    if isinstance(error, MRLError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}. Check the path and its permissions."
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}. Check where the output goes."
    # A usage error. Its class is typer's in some releases and click's in others; all of them say it this way.
    say = getattr(error, "format_message", None)
    if say is None:
        return ""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mrlclient"
    problem = str(say())
    return f"{problem}{'' if problem.endswith(('.', '?')) else '.'} See '{command} --help'."


def _tell(kind: str, message: str) -> None:
    print(f"{kind}: {' '.join(message.split())}", file=sys.stderr)
