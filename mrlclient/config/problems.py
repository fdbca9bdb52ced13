"""What is wrong with a configuration, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mrlclient.config.files import Place
from mrlclient.errors import ConfigurationError, MRLError


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to put right, and where."""

    at: Place
    message: str
    #: What our own code raised, where it did.
    error: MRLError | None = field(default=None, compare=False)


def raised(problems: Sequence[Problem], origin: Callable[[Place], str] | None = None) -> MRLError:
    """The error that tells the problems. One alone that another of our errors tells is that error, with the place.

    Args:
        problems: At least one.
        origin: From a place to where that is, where it is in a file.
    """
    first = problems[0]
    lines = [shown(problem, origin) for problem in problems]
    if len(problems) > 1:
        return ConfigurationError(f"The configuration cannot be used, for {len(lines)} reasons.\n" + "\n".join(lines))
    if first.error is None:
        return ConfigurationError(lines[0])
    if origin is not None:
        first.error.args = (f"{origin(first.at)}: {first.error}",)
    return first.error


def shown(problem: Problem, origin: Callable[[Place], str] | None = None) -> str:
    """A problem as it is told: where it is, and what it is."""
    at = problem.at
    # What is in a profile needs no more to be found than the line.
    keys = at[2:] if origin is not None and at[:1] == ("profiles",) and len(at) > 2 else at
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in keys).removeprefix(".")
    message = f"{key}: {problem.message}" if key else problem.message
    return message if origin is None else f"{origin(at)}: {message}"
