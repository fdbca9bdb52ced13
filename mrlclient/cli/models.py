"""`mrlclient models`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Annotated, Any

import typer

from mrlclient.cli._console import console, table
from mrlclient.cli._options import Debug
from mrlclient.errors import ConfigurationError
from mrlclient.models import ModelSpec, catalogue, unknown_provider
from mrlclient.servers import Cut

#: What a server does with a width, in words.
_CUTS: dict[Cut, str] = {
    "honours": "cuts, scales",
    "slices_without_l2": "cuts, does not scale",
    "ignores": "ignores it",
    "pads": "fills up with zeros",
    "refuses": "refuses it",
}

_DECLARATION = """\
[profiles.mine]
model = "openai-compatible:NAME"   # the name on the server
server = "ollama"                  # or base_url = "http://HOST:PORT/v1"

[profiles.mine.spec]
native_dimensions = 1024
matryoshka = false                 # true where its authors say so\
"""


def models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Every field of every model as JSON, with the source and date of each value.")
    ] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
    provider: Annotated[
        str | None, typer.Option("--provider", "-p", metavar="NAME", help="The models of this provider only.")
    ] = None,
    matryoshka: Annotated[
        bool, typer.Option("--matryoshka", help="Only models that may be cut to fewer dimensions.")
    ] = False,
    debug: Debug = False,
) -> None:
    """List the models of the catalogue.

    Widths are in numbers a vector, list prices in USD per million tokens.
    """
    if as_json and as_markdown:
        raise ConfigurationError("--json and --markdown exclude each other. Give one of them.")
    specs = _chosen(provider, matryoshka)
    if not specs and not as_json and not as_markdown:
        _print_servers()
    elif as_json:
        typer.echo(json.dumps([as_plain(spec) for spec in specs], indent=2, ensure_ascii=False))
    elif as_markdown:
        typer.echo(markdown(specs))
    else:
        _print_table(specs)


def _chosen(provider: str | None, matryoshka: bool) -> list[ModelSpec]:
    known = catalogue()
    if provider is not None:
        provider = known.aliases.get(provider, provider)
        if provider not in known.providers:
            raise unknown_provider(provider, [*known.providers, *known.aliases])
    return [
        spec
        for spec in known.models.values()
        if (provider is None or spec.provider == provider) and (spec.matryoshka or not matryoshka)
    ]


def as_plain(spec: ModelSpec) -> dict[str, Any]:
    """Every field of a model, in what JSON has."""
    values = {field.name: getattr(spec, field.name) for field in fields(spec)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def markdown(specs: Iterable[ModelSpec]) -> str:
    """A Markdown table of models, without a line end."""
    heads = (
        "Model",
        "Matryoshka",
        "Full width",
        "Widths the server cuts to",
        "Narrowest evaluated",
        "Space",
        "USD per million tokens",
        "Status",
    )
    rows = [
        (
            f"`{spec.address}`",
            "yes" if spec.matryoshka else "no",
            str(spec.native_dimensions),
            _server_widths(spec),
            _or_dash(spec.smallest_evaluated),
            f"`{spec.space}`",
            _price(spec),
            _or_dash(spec.status),
        )
        for spec in specs
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rows))


def _print_table(specs: Iterable[ModelSpec]) -> None:
    shown = table("model", "MRL", "full", "server cuts to", "evaluated\nfrom", "USD/1M\ntokens", left=2)
    for spec in specs:
        shown.add_row(
            spec.address,
            "yes" if spec.matryoshka else "no",
            str(spec.native_dimensions),
            _server_widths(spec).replace(",", ""),
            _or_dash(spec.smallest_evaluated),
            _price(spec),
        )
    console().print(shown)
    typer.echo(
        "\nMRL: a Matryoshka model, which may be cut. Evaluated from: the narrowest width\n"
        "that its authors evaluated. --json has the limits, spaces, scores and sources."
    )


def _print_servers() -> None:
    """What there is in the place of models, where each server has its own."""
    typer.echo(
        "The catalogue has no such model. Servers with OpenAI's API have models of their\n"
        "own. Of these it is known what they do with a width, unless told otherwise:\n"
    )
    shown = table("server", "usual address", "what it does with a width", left=3)
    for server in catalogue().servers.values():
        shown.add_row(server.name, _or_dash(server.base_url), _or_dash(server.dimensions and _CUTS[server.dimensions]))
    console().print(shown)
    typer.echo(f"\nDeclare the model in mrlclient.toml, and take it with --profile:\n\n{_DECLARATION}")


def _server_widths(spec: ModelSpec) -> str:
    if not spec.matryoshka:
        return "–"
    if spec.server_dimensions is None:
        return "none: cut here"
    if spec.server_dimensions == "any":
        return f"1 to {spec.native_dimensions}"
    return ", ".join(map(str, spec.server_dimensions))


def _price(spec: ModelSpec) -> str:
    return "–" if spec.usd_per_million_tokens is None else f"{spec.usd_per_million_tokens:g}"


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)
