"""From a name to a provider, imported only when it is used."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from mrlclient.errors import ConfigurationError
from mrlclient.models import ModelSpec, catalogue, find_model, split_address, unknown_provider

if TYPE_CHECKING:
    from mrlclient.providers.base import Provider

#: Third parties name their `Provider` classes in this group: `acme = "acme_mrl:Acme"`.
ENTRY_POINT_GROUP = "mrlclient.providers"

#: Real Matryoshka embeddings that a wheel carries: they work without a key and without a network.
EMBEDDED_DEFAULT = "wordllama:l2-supercat-256"


def default_model() -> str:
    """The address in `MRLCLIENT_MODEL`, else the embedded default."""
    return os.environ.get("MRLCLIENT_MODEL", "").strip() or EMBEDDED_DEFAULT


def find_spec(address: str) -> ModelSpec:
    """The model at `"provider:model"`.

    Raises:
        UnknownProviderError: If nobody offers the provider; near misses are named.
        UnknownModelError: If the provider has no such model; near misses are named.
    """
    provider, name = split_address(address)
    if any(spec.provider == provider for spec in catalogue().models.values()):
        return find_model(address)
    return provider_class(provider).find_spec(name)


def provider_class(name: str) -> type[Provider]:
    """The class of a provider: one of ours, or a third party's entry point.

    Raises:
        UnknownProviderError: If nobody offers it; near misses are named.
    """
    from mrlclient.providers.base import Provider

    path = catalogue().providers.get(catalogue().aliases.get(name, name))
    if path is not None:
        module, _, attribute = path.partition(":")
        found = getattr(import_module(module), attribute)
    else:
        # Imported here: it costs more than the rest of this file's work, and only third parties need it.
        from importlib.metadata import entry_points

        others = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
        if name not in others:
            raise unknown_provider(name, [*catalogue().providers, *catalogue().aliases, *others])
        found = others[name].load()
    if not (isinstance(found, type) and issubclass(found, Provider)):
        raise ConfigurationError(f"The provider {name!r} is not a subclass of mrlclient.Provider.")
    return found


def create(spec: ModelSpec) -> Provider:
    """A provider of this model, configured from the environment.

    Raises:
        UnknownProviderError: If nobody offers the spec's provider.
        MissingCredentialsError: If it needs a key and there is none.
    """
    return provider_class(spec.provider)(spec)
