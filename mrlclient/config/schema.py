"""The JSON schema of `mrlclient.toml`, by which editors complete, explain and check."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from mrlclient import registry
from mrlclient.canary import Canary
from mrlclient.config import tables
from mrlclient.limits import Limits
from mrlclient.models import ModelSpec, catalogue
from mrlclient.quantize import Ranges

#: An entry of a docstring's section, without its end.
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)

_ADDRESS = {
    "type": "string",
    "pattern": "^[^:]+:.+$",
    "description": "An address, such as openai:text-embedding-3-small.",
}


def schema(embedder: Callable[..., object]) -> dict[str, Any]:
    """The schema.

    Args:
        embedder: Whose signature and docstring say what the keys of a profile are, and their defaults.
    """
    spec = _table(tables.spec_kinds(), ModelSpec)
    refined: dict[str, dict[str, Any]] = {
        "limits": {"$ref": "#/$defs/limits"},
        "canary": {"$ref": "#/$defs/canary"},
        "ranges": {"$ref": "#/$defs/ranges"},
        "query_model": {"$ref": "#/$defs/model"},
        "endpoints": {"type": "array", "items": {"$ref": "#/$defs/model"}},
        "fallback": {"type": "array", "items": {"$ref": "#/$defs/model"}},
    }
    profile = _properties(tables.EMBEDDER, embedder)
    for name, kind in refined.items():
        profile[name] = {"description": profile[name]["description"], **kind}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mrlclient.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "default": {"type": "string", "description": "The profile that is taken where none is named."},
            "profiles": {
                "type": "object",
                "description": "Embedders, by name.",
                "additionalProperties": {"$ref": "#/$defs/profile"},
            },
            "models": {
                "type": "object",
                "description": "Models that the catalogue does not hold, by address.",
                "propertyNames": _ADDRESS,
                "additionalProperties": {"$ref": "#/$defs/spec"},
            },
        },
        "$defs": {
            "profile": {"anyOf": _by_provider(profile)},
            "model": {"anyOf": [_ADDRESS, *_by_provider({})]},
            "spec": spec,
            "limits": _table(tables.limits_kinds(), Limits),
            "canary": _table(tables.canary_kinds(), Canary),
            "ranges": _table(tables.kinds_of(Ranges), Ranges),
        },
    }


def _by_provider(more: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of a model, for each provider with its own settings; of a third party's nothing is known."""
    names = {
        name: [name, *(a for a, of in catalogue().aliases.items() if of == name)] for name in catalogue().providers
    }
    variants = []
    for name, spellings in names.items():
        made = registry.provider_class(name)
        settings = {key: value for key, value in _properties(tables.kinds_of(made), made).items() if key != "model"}
        model = _ADDRESS | {"pattern": f"^({'|'.join(spellings)}):.+$"}
        variants.append(_model(name, {**settings, **more}, model) | {"additionalProperties": False})
    known = "|".join(spelling for spellings in names.values() for spelling in spellings)
    return [*variants, _model("another provider", more, _ADDRESS | {"pattern": f"^(?!({known}):)[^:]+:.+$"})]


def _model(title: str, properties: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    declared = {"description": "What the model is, where the catalogue does not hold it.", "$ref": "#/$defs/spec"}
    return {
        "title": title,
        "type": "object",
        "required": ["model"],
        "properties": {"model": model, "spec": declared, **properties},
    }


def _table(kinds: tables.Kinds, make: Callable[..., object]) -> dict[str, Any]:
    table = tables.adapter(kinds).json_schema()
    del table["title"]
    return table | {"properties": _properties(kinds, make)}


def _properties(kinds: tables.Kinds, make: Callable[..., object]) -> dict[str, Any]:
    """Each key's type, what its constructor says of it, and its default."""
    told = {name: " ".join(text.split()) for name, text in _ENTRY.findall(inspect.getdoc(make) or "")}
    parameters = inspect.signature(make).parameters
    properties = {}
    for name, values in tables.adapter(kinds).json_schema().get("properties", {}).items():
        values.pop("title", None)
        default = parameters[name].default
        known = {"default": default} if isinstance(default, str | int | float) else {}
        properties[name] = {**values, "description": told.get(name, ""), **known}
    return properties
