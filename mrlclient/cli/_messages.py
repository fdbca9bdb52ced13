"""Errors and warnings as one line each on stderr."""

from __future__ import annotations

import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from mrlclient.cli._options import Session
from mrlclient.errors import (
    AuthenticationError,
    CacheWarning,
    MRLError,
    NarrowDimensionsWarning,
    ProviderConnectionError,
    ProviderTimeoutError,
    QuotaError,
    RateLimitError,
    ServerBehaviorWarning,
    ServerError,
)

#: Exit statuses.
BROKEN, REFUSED = 1, 2

_OURS = (NarrowDimensionsWarning, ServerBehaviorWarning, CacheWarning)

#: What to do about what a provider says; the first that fits.
_NEXT = (
    (AuthenticationError, "Check the key in the environment."),
    (QuotaError, "Check the account's credit."),
    (RateLimitError, "Run it again later, or ask the provider for a higher limit."),
    (ProviderConnectionError, "Check the network, and the base URL where one is set."),
    ((ProviderTimeoutError, ServerError), "Run it again later."),
)

#: What messages say to whoever writes Python, and what to say in a shell. Advice about an option is left out where the
#: command has no such option.
_IN_A_SHELL = (
    (r", or pass on_narrow='allow'", ", or give --on-narrow allow"),
    (r"^dimensions=", "--dimensions "),
    (r": leave dimensions out", ": leave --dimensions out"),
    (r", or pass truncate_input=True to", ", or give --truncate-input to"),
    (r", and leave truncate_input out", ", and leave --truncate-input out"),
    (r": leave task out", ": leave --task out"),
    (r"^Pass input_type or task, not both", "Give --input-type or --task, not both"),
    (r", or pass api_key=", ""),
    (r"^base_url ", "The base URL in the environment "),
    (r" Pass the key as api_key instead\.", " Set the key in the variable of its own."),
    (r" To use another, declare it: ModelSpec\(.*?\)\.", ""),
    (
        r" Declare it: OpenAICompatible\(.*?\), or a profile .* and spec\.",
        " Declare it in a configuration: 'mrlclient models -p openai-compatible' shows how.",
    ),
    (r" Decode its bytes with errors='replace' first\.", " Take it out."),
    (r", unset HF_HUB_OFFLINE if it is set, or pass model_path=.*?files", ", and unset HF_HUB_OFFLINE if it is set"),
    (r"^(tolerance|confidence|dtypes) ", r"--\1 "),
    (r"Name a file of queries as well\.", "Name a file of queries as well, with --queries."),
    (r"whole number\. Name the one that has it\.", "whole number. Name the one that has it with --id-field."),
    (r"Name the one that has the text\.", "Name the one that has the text with --text-field."),
    (r"Pass revision= with .*? files\.", "Only Python can name one: Nomic(..., revision=...)."),
    (r", 'redis://HOST' or a Cache\.", " or 'redis://HOST'."),
)


def tell_error(error: Exception, session: Session) -> int:
    """Says on stderr what went wrong and what to do about it.

    Returns:
        The exit status: 2 where the user can put it right, 1 where the fault is in the program.
    """
    if session.debug:
        traceback.print_exception(error)
    message = _message(error)
    status = REFUSED if message else BROKEN
    if not message:
        # What another error says is not shown: it may quote a text.
        message = f"unexpected {type(error).__name__}, a fault in mrlclient. Run it again with --debug to see where."
    tell("error", message, session)
    return status


def tell(kind: str, message: str, session: Session) -> None:
    """Says something on stderr, in the words of a shell."""
    for python, shell in _IN_A_SHELL:
        option = re.search(r"--[\w-]+", shell)
        message = re.sub(python, shell if option is None or option[0] in session.options else "", message)
    if sys.stderr is not None:
        print(f"{kind}: {' '.join(message.split())}", file=sys.stderr)


@contextmanager
def warnings_on_one_line(session: Session) -> Iterator[None]:
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
            if not issubclass(category, _OURS):
                otherwise(message, category, filename, lineno, file, line)
            elif str(message) not in told:
                told.add(str(message))
                tell("warning", str(message), session)

        warnings.showwarning = show
        for kind in _OURS:
            warnings.simplefilter("always", kind)
        yield


def _message(error: Exception) -> str:
    """What to tell; nothing for an error that nobody planned."""
    if isinstance(error, MRLError):
        said = str(error)
        advice = next((f" {advice}" for kinds, advice in _NEXT if isinstance(error, kinds)), "")
        return f"{said}{'.' if advice and said[-1:] not in '.?!…' else ''}{advice}"
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
    problem = problem.replace(": Value error, ", ": ")
    return f"{problem}{'' if problem.endswith(('.', '?')) else '.'} See '{command} --help'."
