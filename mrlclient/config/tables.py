"""What each table of the configuration may hold: its keys and their types, checked by pydantic.

The tables of a provider, of a declared model, of limits and of a canary are what their constructors take. What is no
plain value there, such as a client or a function, is no key.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from inspect import Parameter, getattr_static, signature, unwrap
from pathlib import Path
from typing import Annotated, Any, Literal, Required, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from mrlclient._codes import Quantization
from mrlclient.canary import Canary
from mrlclient.config.writing import SECRET
from mrlclient.dimensions import OnNarrow
from mrlclient.limits import Limits
from mrlclient.models import ModelSpec
from mrlclient.providers.base import Provider
from mrlclient.quantize import DType

#: A key's name -> its type.
Kinds = Mapping[str, Any]

Width = Annotated[int, Field(gt=0)]
#: A model: its address, or a table with settings of its provider.
ModelValue = str | dict[str, Any]

#: What an embedder takes beside `model`, as a profile holds it.
EMBEDDER: Kinds = {
    "dimensions": Width | list[Width],
    "on_narrow": OnNarrow,
    "truncate_input": bool,
    "cache": str,
    "fetch": Literal["requested", "native"],
    "query_model": ModelValue,
    "endpoints": list[ModelValue],
    "fallback": list[ModelValue],
    "limits": dict[str, Any],
    "canary": dict[str, Any],
    "dtype": DType,
    "ranges": dict[str, Any],
    "quantization": Quantization,
    "max_attempts": int,
    "max_concurrency": int,
    "deadline": float,
}

_PLAIN = (str, int, float, bool)
_MEANT = {"string": "a string", "int": "a whole number", "float": "a number", "bool": "true or false"}


@cache
def kinds_of(make: Callable[..., object]) -> Kinds:
    """The plain parameters of a constructor, with their types; those that have no default are `Required`."""
    kinds = {}
    for name, parameter in signature(make).parameters.items():
        kind = _plain(_annotation(make, parameter))
        if kind is not None and not SECRET.search(name) and parameter.kind is not Parameter.VAR_KEYWORD:
            kinds[name] = Required[kind] if parameter.default is Parameter.empty else kind
    return kinds


@cache
def paths_of(make: Callable[..., object]) -> frozenset[str]:
    """The parameters that are paths."""
    parameters = signature(make).parameters.values()
    return frozenset(each.name for each in parameters if Path in get_args(_annotation(make, each)))


def model_kinds(provider: type[Provider] | None) -> Kinds:
    """The table of a model: its address, what it is if the catalogue does not say, and its provider's settings."""
    settings = {} if provider is None else kinds_of(provider)
    return {**settings, "model": Required[str], "spec": dict[str, Any]}


def spec_kinds() -> Kinds:
    """The table that declares a model; its provider and name stand in its address."""
    return {name: kind for name, kind in kinds_of(ModelSpec).items() if name not in ("provider", "name")}


def limits_kinds() -> Kinds:
    """The table of limits. JSON knows no infinity, so that it may be a string."""
    rate = Literal["inf"] | float
    return {**kinds_of(Limits), "requests_per_minute": rate, "tokens_per_minute": rate}


def canary_kinds() -> Kinds:
    """The table of a canary."""
    return {**kinds_of(Canary), "path": Required[str]}


def adapter(kinds: Kinds) -> TypeAdapter[Any]:
    """What checks such a table."""
    # Type checkers want to know its keys, which are known only now.
    make: Any = TypedDict
    table = make("Table", dict(kinds), total=False)
    table.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    return TypeAdapter(table)


def problems_of(kinds: Kinds, values: Mapping[str, Any]) -> dict[tuple[str | int, ...], str]:
    """What is wrong with a table's keys and types, by the place within it. No value is shown: it may be a secret."""
    found: dict[tuple[str | int, ...], list[str]] = {}
    try:
        adapter(kinds).validate_python(dict(values))
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            # Behind the key: places in a list; and pydantic's names for the ways to be right, which are no places.
            at = (each["loc"][0], *(part for part in each["loc"][1:] if isinstance(part, int)))
            found.setdefault(at, []).append(_message(str(each["loc"][0]), each, kinds))
    # A list that is wrong in one place is not also wrong as a whole.
    inner = {at[:1] for at in found if len(at) > 1}
    return {at: _joined(messages) for at, messages in found.items() if len(at) > 1 or at not in inner}


def near(name: str, known: Sequence[str]) -> str:
    """Did you mean ...?, or an empty string."""
    short = [each for each in known if len(name) > 2 and each.startswith(name.removesuffix("s"))]  # dims
    meant = short or difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {meant[0]!r}?" if meant else ""


def _message(key: str, error: Any, kinds: Kinds) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "there is no such key." + (near(key, list(kinds)) or f" Known are {', '.join(sorted(kinds))}.")
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "greater_than":
        return f"must be more than {context['gt']}"
    if kind in ("dict_type", "mapping_type"):
        return "must be a table"
    if kind in ("list_type", "tuple_type"):
        return "must be a list"
    meant = _MEANT.get(kind.partition("_")[0])
    return f"must be {meant}" if meant else str(error["msg"])


def _joined(messages: Sequence[str]) -> str:
    first, *others = dict.fromkeys(messages)
    return " or ".join([first, *(other.removeprefix("must be ") for other in others)])


def _annotation(make: Callable[..., object], parameter: Parameter) -> Any:
    """A parameter's type; None where only type checkers know it, as the class of an official client."""
    # A constructor may be inherited from another module, and decorated in a third.
    module = getattr(unwrap(getattr_static(make, "__init__") if isinstance(make, type) else make), "__globals__", {})
    with suppress(NameError, AttributeError, TypeError):
        annotated = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
        return get_type_hints(annotated, module)["it"]
    return None


def _plain(kind: Any) -> Any:
    """The type as JSON has it; None where JSON has none."""
    origin, of = get_origin(kind), get_args(kind)
    if kind in _PLAIN or origin is Literal:
        return kind
    if origin in (Union, types.UnionType):
        # A path is a string, and nothing stands for None: the key is left out.
        inner = [_plain(each) for each in of if each not in (Path, types.NoneType)]
        return None if not inner or None in inner else _of(Union, *inner)
    if origin is tuple and of[-1:] != (...,):
        return None if None in (inner := [_plain(each) for each in of]) else _of(list, _of(Union, *inner))
    if origin in (tuple, list, Sequence):
        return None if (item := _plain(of[0])) is None else _of(list, item)
    if origin in (dict, Mapping) and of[0] is str:
        return None if (item := _plain(of[1])) is None else _of(dict, str, item)
    return None


def _of(generic: Any, *parts: Any) -> Any:
    """`generic[parts]`, where type checkers cannot know the parts."""
    return generic[parts]
