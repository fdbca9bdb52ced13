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

    @property
    def key(self) -> str:
        """The place as it is told: `endpoints[0].timeout`; within a profile of a file, without the profile's name."""
        at = self.at[2:] if self.at[:1] == ("profiles",) and len(self.at) > 2 else self.at
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).removeprefix(".")

    def told(self, origin: Callable[[Place], str] | None) -> str:
        """Where it is, and what it is."""
        message = f"{self.key}: {self.message}" if self.key else self.message
        message += "" if message.endswith((".", "?")) else "."
        return message if origin is None else f"{origin(self.at)}: {message}"


def raised(problems: Sequence[Problem], origin: Callable[[Place], str] | None = None) -> MRLError:
    """The error that tells the problems. One alone that another of our errors tells is that error, with the place.

    Args:
        problems: At least one.
        origin: From a place to where that is, where it is in a file.
    """
    first = problems[0]
    lines = [problem.told(origin) for problem in problems]
    if len(problems) > 1:
        return ConfigurationError(f"The configuration cannot be used, for {len(lines)} reasons.\n" + "\n".join(lines))
    if first.error is None:
        return ConfigurationError(lines[0])
    if origin is not None:
        first.error.args = (f"{origin(first.at)}: {first.error}",)
    return first.error
