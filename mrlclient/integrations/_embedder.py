"""What every integration takes in place of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrlclient.dimensions import check_width
from mrlclient.embedder import Embedder
from mrlclient.errors import ConfigurationError, MissingExtraError, missing_extra
from mrlclient.wiring import spec_of

#: An address, a profile's values as of `Embedder.to_dict`, or an embedder with settings of its own.
Model = str | Mapping[str, Any] | Embedder | None


def embedder_of(model: Model, dimensions: int | None = None) -> Embedder:
    """The embedder that is meant; a new one unless it is one already.

    Raises:
        ConfigurationError: If `dimensions` is given beside an embedder or a profile, which say it themselves.
        MRLError: As `Embedder`.
    """
    if model is None or isinstance(model, str):
        if dimensions is not None:
            # One: of several, a framework would get the widest only.
            check_width(spec_of(model), dimensions)
        return Embedder(model, dimensions=dimensions)
    if dimensions is not None:
        raise ConfigurationError("dimensions is given twice. Say it where the embedder is made.")
    if isinstance(model, Embedder):
        return model
    if isinstance(model, Mapping):
        return Embedder.from_dict(model)
    raise ConfigurationError(
        f"A model is an address such as 'openai:text-embedding-3-small', a profile's values or an Embedder, "
        f"not {type(model).__name__}."
    )


def missing(error: ModuleNotFoundError, extra: str) -> MissingExtraError:
    """The error where a framework is not installed; one that only fails to find a part of itself stays as it is."""
    return missing_extra(f"The package {error.name!r}", extra)
