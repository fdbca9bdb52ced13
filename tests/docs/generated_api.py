"""The reference of the public names, made from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import mrlclient
import mrlclient.errors
import mrlclient.models
from mrlclient import MRLError, call, dimensions, embedder, quantize, wiring

_ORDER = [
    "Embedder",
    "EmbeddingResult",
    "Chunk",
    "Usage",
    "Limits",
    "OpenAI",
    "Voyage",
    "Nomic",
    "WordLlama",
    "Provider",
    "ModelSpec",
]
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$", re.MULTILINE)
_MODULE = re.compile(r"\b(?:typing|collections|mrlclient)\.(?:[a-z_]+\.)*")
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


class _Bare(str):
    """An annotation that is shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def api() -> str:
    """Every public name: signature, what it is, arguments, attributes, errors."""
    objects = {name: getattr(mrlclient, name) for name in mrlclient.__all__}
    failures = {n for n, o in objects.items() if isinstance(o, type) and issubclass(o, (MRLError, Warning))}
    others = sorted(set(objects) - failures, key=lambda n: (_ORDER.index(n) if n in _ORDER else len(_ORDER), n))
    parts = [_describe(name, objects[name]) for name in others]
    parts.append("## Types in the signatures\n\n" + "\n".join(_types()))
    tree = _tree(mrlclient.errors.__doc__ or "")
    parts.append(f"## Errors and warnings\n\n```text\n{tree}\n```")
    parts += [_describe(name, objects[name], level=3, signed=False) for name in sorted(failures)]
    return "\n\n".join(parts)


def _types() -> list[str]:
    types = {"Dimensions": dimensions.Dimensions, "Reduction": dimensions.Reduction, "OnNarrow": dimensions.OnNarrow}
    types |= {"InputType": mrlclient.models.InputType, "Task": mrlclient.models.Task, "Recipe": mrlclient.models.Recipe}
    types |= {"DType": quantize.DType}
    types |= {"Model": wiring.Model, "Fetch": embedder.Fetch, "OnError": call.OnError, "Scope": mrlclient.errors.Scope}
    return [f"- `{name}`: `{_MODULE.sub('', str(kind))}`" for name, kind in types.items()]


def _tree(doc: str) -> str:
    inside = doc.partition("::\n")[2].partition("\n\nNo message")[0]
    return inspect.cleandoc(inside)


def _describe(name: str, thing: Any, *, level: int = 2, signed: bool = True) -> str:
    parts = [f"{'#' * level} `{name}`"]
    if signed:
        parts.append(f"```text\n{name}{_signature(thing)}\n```")
    parts.append(_prose(inspect.getdoc(thing) or ""))
    if isinstance(thing, type) and signed:
        parts += [_describe_member(name, member, value) for member, value in _members(thing)]
    return "\n\n".join(parts)


def _members(thing: type) -> list[tuple[str, Any]]:
    return [
        (member, value)
        for member, value in vars(thing).items()
        if not member.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, (property, classmethod)))
        and inspect.getdoc(getattr(thing, member))
        and (thing is mrlclient.Provider or not hasattr(mrlclient.Provider, member))
    ]


def _describe_member(owner: str, member: str, value: Any) -> str:
    if isinstance(value, property):
        return f"### `{owner}.{member}`\n\n{_prose(inspect.getdoc(value) or '')}"
    function = value.__func__ if isinstance(value, classmethod) else value
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    heading = f"### `{owner}.{member}`\n\n```text\n{prefix}{member}{_signature(function)}\n```"
    return f"{heading}\n\n{_prose(inspect.getdoc(function) or '')}"


def _signature(thing: Any) -> str:
    signature = inspect.signature(thing)
    parameters = [
        parameter.replace(annotation=_bare(parameter.annotation))
        for name, parameter in signature.parameters.items()
        if name not in ("self", "cls")
    ]
    shown = signature.replace(parameters=parameters, return_annotation=_bare(signature.return_annotation))
    one_line = str(shown).removesuffix(" -> None")
    if len(one_line) <= 80:
        return one_line
    result = str(signature.replace(parameters=[], return_annotation=_bare(signature.return_annotation)))[2:]
    lines, keyword_only = [], False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            lines.append("*")
            keyword_only = True
        lines.append(str(parameter))
    return "(\n" + "".join(f"    {line},\n" for line in lines) + ")" + result.removesuffix(" -> None")


def _bare(annotation: Any) -> Any:
    return _Bare(annotation) if isinstance(annotation, str) else annotation


def _prose(doc: str) -> str:
    """A docstring's paragraphs as they are, and its sections as lists."""
    intro, *sections = _SECTION.split(doc)
    parts = [_paragraphs(intro)]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        entries = [f"- `{name}`: {' '.join(text.split())}" for name, text in _ENTRY.findall(body)]
        parts.append(f"{title}:\n\n" + ("\n".join(entries) if entries else " ".join(body.split())))
    return "\n\n".join(part for part in parts if part)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))
