"""From an embedder's arguments to a profile: the plain values that make an equal embedder."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from inspect import Parameter, signature
from typing import Any

from mrlclient import registry
from mrlclient.canary import Canary
from mrlclient.errors import ConfigurationError, MRLError
from mrlclient.limits import Limits
from mrlclient.models import ModelSpec
from mrlclient.providers.base import Provider

#: A key, a token, a password: never a value of a profile. `max_tokens` and `api_key_env` are something else.
SECRET = re.compile(r"(^|_)(key|token|secret|password|credentials?)$", re.IGNORECASE)

#: What the address in a profile says of a model, and what nothing is decided by.
_NOT_WRITTEN = frozenset({"provider", "name", "sources"})


def values_of(arguments: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The shortest profile: what equals the default is left out.

    Args:
        arguments: The embedder's arguments.
        parameters: Its constructor's parameters.

    Raises:
        ConfigurationError: If one of them cannot be written, such as a key that was given in code.
    """
    values = _table(arguments["model"])
    for name, value in arguments.items():
        if name == "model" or value == parameters[name].default:
            continue
        if name == "query_model":
            values[name] = _model(value)
        elif name in ("endpoints", "fallback"):
            values |= {name: [_model(each) for each in value]} if len(value) else {}
        elif name == "cache":
            values[name] = _cache(value)
        elif name == "limits":
            values |= {name: written} if (written := _limits(value)) else {}
        elif name == "canary":
            values[name] = _canary(value)
        elif name == "ranges":
            values[name] = asdict(value)
        elif name == "dimensions":
            values[name] = value if isinstance(value, int) else list(value)
        else:
            values[name] = value
    return values


def _model(model: str | ModelSpec | Provider) -> str | dict[str, Any]:
    """An address where that says it all, else a table."""
    table = _table(model)
    return table["model"] if len(table) == 1 else table


def _table(model: str | ModelSpec | Provider) -> dict[str, Any]:
    if isinstance(model, str):
        return {"model": registry.find_spec(model).address}
    spec = model.declared if isinstance(model, Provider) else model
    table: dict[str, Any] = {"model": spec.address}
    if not _is_known(spec):
        table["spec"] = spec_table(spec)
    if isinstance(model, Provider):
        made = type(model)
        if registry.provider_class(made.name) is not made:
            raise ConfigurationError(
                f"A profile cannot say {made.__name__}: the address {spec.address!r} stands for another class. "
                "Name yours by an entry point of the group 'mrlclient.providers', or make the embedder in code."
            )
        known = signature(made).parameters
        settings = model.settings()
        if secrets := [name for name in settings if SECRET.search(name)]:
            raise ConfigurationError(f"{made.__name__}(..., {secrets[0]}=) is a secret, which a profile never holds.")
        table |= {name: value for name, value in settings.items() if name not in known or value != known[name].default}
    return table


def _is_known(spec: ModelSpec) -> bool:
    """Whether the address alone stands for all of it."""
    try:
        return registry.find_spec(spec.address) == spec
    except MRLError:
        return False


def spec_table(spec: ModelSpec) -> dict[str, Any]:
    """A model as a table declares it, without its address: what equals the default is left out."""
    table = {}
    for field in fields(spec):
        value = getattr(spec, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if field.name not in _NOT_WRITTEN and value != default:
            table[field.name] = _plain(value)
    if spec.space == f"{spec.provider}/{spec.name}":
        del table["space"]
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _cache(cache: Any) -> str:
    from mrlclient.cache.base import Cache

    if isinstance(cache, Cache):
        raise ConfigurationError(
            "cache is an object, which a profile cannot hold. Give its address instead, such as cache='vectors.db' or "
            "'redis://HOST'."
        )
    return _address("cache", cache)


def _address(name: str, address: Any) -> str:
    """The address, as it is understood in any folder."""
    from mrlclient.cache.address import portable

    try:
        return portable(address)
    except ConfigurationError:
        pass
    raise ConfigurationError(
        f"{name} is an address with a user name or a password, which a profile never holds. Name a server that needs "
        "none, such as one on a Unix socket, or make the embedder in code."
    )


def _limits(limits: Limits) -> dict[str, Any]:
    # JSON knows no infinity.
    table = {
        field.name: "inf" if value == math.inf else value
        for field in fields(limits)
        if (value := getattr(limits, field.name)) != field.default
    }
    return table | ({"shared": _address("limits.shared", limits.shared)} if limits.shared is not None else {})


def _canary(canary: Canary) -> dict[str, Any]:
    known = signature(Canary).parameters
    values = {"path": str(canary.path), "every": canary.every, "threshold": canary.threshold}
    return {name: value for name, value in values.items() if value != known[name].default}
