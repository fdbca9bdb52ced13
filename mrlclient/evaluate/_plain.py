"""Frozen dataclasses as the plain values of JSON, and back."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mrlclient.errors import ConfigurationError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """The value with dicts for dataclasses and mappings, and lists for tuples."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: to_plain(item) for name, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, tuple) else value


def from_plain(kind: type[T], values: Mapping[str, Any], version: int) -> T:
    """A dataclass out of what `to_plain` made, with the version that stood beside it as `format`.

    Raises:
        ConfigurationError: If the version is another, or a value is missing, unknown or of another kind.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"A saved {kind.__name__} must be an object, not {type(values).__name__}.")
    if values.get("format") != version:
        raise ConfigurationError(
            f"This is no {kind.__name__} of format {version}, the one that this version reads. Make it again."
        )
    made: T = _read({name: item for name, item in values.items() if name != "format"}, kind, kind.__name__)
    return made


def _read(value: Any, kind: Any, place: str) -> Any:
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _read_fields(value, kind, place)
    if origin is tuple:
        _check(isinstance(value, list | tuple), place, "a list")
        return tuple(_read(item, get_args(kind)[0], f"{place}[{index}]") for index, item in enumerate(value))
    if origin is Mapping:
        _check(isinstance(value, Mapping), place, "an object")
        return {name: _read(item, get_args(kind)[1], f"{place}.{name}") for name, item in value.items()}
    if origin is Literal:
        _check(value in get_args(kind), place, f"one of {', '.join(get_args(kind))}")
        return value
    if origin in (Union, types.UnionType):
        (of_kind,) = (each for each in get_args(kind) if each is not type(None))
        return None if value is None else _read(value, of_kind, place)
    # JSON writes 1.0 as 1 in some languages.
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _check(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), place, f"a {kind.__name__}")
    return value


def _read_fields(value: Any, kind: Any, place: str) -> Any:
    _check(isinstance(value, Mapping), place, "an object")
    kinds = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    if unknown := sorted(set(value) - set(known)):
        raise ConfigurationError(f"{place} has the unknown key {unknown[0]!r}. A newer version may have written it.")
    needed = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    if missing := sorted(needed - set(value)):
        raise ConfigurationError(f"{place} has no {missing[0]!r}. The file is not whole: make it again.")
    return kind(**{name: _read(item, kinds[name], f"{place}.{name}") for name, item in value.items()})


def _check(holds: bool, place: str, wanted: str) -> None:
    if not holds:
        raise ConfigurationError(f"{place} must be {wanted}.")
