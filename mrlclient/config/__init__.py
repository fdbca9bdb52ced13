"""An embedder as plain values: a profile, out of a mapping, a file or the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

from mrlclient.errors import missing_extra

__all__ = ["arguments_of", "arguments_of_file", "check_installed", "values_of"]


def arguments_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """An embedder's arguments out of a profile's values.

    Raises:
        ConfigurationError: With all that is wrong with it.
        MissingExtraError: If pydantic is not installed.
    """
    check_installed()
    from mrlclient.config import reading

    return reading.arguments_of(values)


def arguments_of_file(path: str | os.PathLike[str] | None, profile: str | None) -> dict[str, Any]:
    """An embedder's arguments out of a profile of a file, with what the environment says in its place.

    Raises:
        ConfigurationError: With all that is wrong with the file, if its profile cannot be used.
        MissingExtraError: If pydantic is not installed.
    """
    check_installed()
    from mrlclient.config import choosing

    return choosing.arguments_of_file(path, profile)


def values_of(arguments: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """A profile's values out of an embedder's arguments; what equals the default is left out.

    Raises:
        ConfigurationError: If one of them cannot be written down.
    """
    from mrlclient.config import writing

    return writing.values_of(arguments, parameters)


def check_installed() -> None:
    """Asks for pydantic.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import pydantic  # noqa: F401
    except ImportError:
        raise missing_extra("pydantic, which checks profiles,", "config") from None
