"""`mrlclient config`: whether a configuration is right, what of it holds here, and its schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mrlclient.cli._messages import REFUSED
from mrlclient.cli._options import Debug
from mrlclient.config import check_installed
from mrlclient.errors import ConfigurationError

if TYPE_CHECKING:
    from mrlclient.config.reading import Reader

app = typer.Typer(
    rich_markup_mode=None, help="See whether mrlclient.toml is right, what of it holds here, and what it may hold."
)

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="By default MRLCLIENT_CONFIG, else the nearest mrlclient.toml or pyproject.toml, from here upwards, else "
        "the user's own.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME",
        help="By default MRLCLIENT_PROFILE, else the default that the file names, else the only one.",
    ),
]

#: Keys whose values are addresses that may hold a password.
_ADDRESSES = ("cache", "shared")


@app.command("check")
def check(
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Check every profile, without a key and without a request.

    All that is wrong is told, each with its line; the exit status is then 2.
    """
    check_installed()
    from mrlclient.config.choosing import check as check_file
    from mrlclient.config.files import find_file, open_file

    file = find_file() if config is None else open_file(config)
    if file is None:
        raise ConfigurationError("There is no mrlclient.toml here or in a folder above. Name one with --config.")
    readers, problems = check_file(file)
    if as_json:
        told = [{"line": file.line(each.at), "key": each.key, "message": each.message} for each in problems]
        profiles = {name: _resolved(reader) for name, reader in readers.items()}
        typer.echo(json.dumps({"file": str(file.path), "profiles": profiles, "problems": told}, ensure_ascii=False))
    else:
        for name, reader in readers.items():
            typer.echo(f"{name}: {_in_words(reader)}")
        for problem in problems:
            typer.echo(" ".join(problem.told(lambda at: f"{file.path}:{file.line(at)}").split()))
        if not problems:
            typer.echo(f"{file.path}: nothing is wrong")
    if problems:
        raise typer.Exit(REFUSED)


@app.command("show")
def show(
    config: ConfigFile = None,
    profile: Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show the profile that holds here, and where each of its values comes from.

    No key is shown, and none is needed.
    """
    check_installed()
    from mrlclient.config.choosing import choose, read
    from mrlclient.config.problems import raised
    from mrlclient.config.reading import Reader

    chosen = choose(config, profile)
    reader = Reader(None if chosen.file is None else chosen.file.folder, needs_keys=False)
    read(reader, chosen)
    if reader.problems:
        raise raised(reader.problems, chosen.origin)
    path = None if chosen.file is None else str(chosen.file.path)
    values = {key: _without_passwords(key, value) for key, value in chosen.values.items()}
    origins = {key: chosen.origin((*chosen.at, key)) for key in values}
    if as_json:
        facts = {"file": path, "profile": chosen.name, "values": values, "from": origins, "resolved": _resolved(reader)}
        typer.echo(json.dumps(facts | {"left_out": chosen.left_out}, ensure_ascii=False))
        return
    typer.echo(f"file     {path or 'none'}\nprofile  {chosen.name or 'none'}\n")
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    for line, origin in zip(lines, origins.values(), strict=True):
        number = origin.removeprefix(f"{path}:")
        typer.echo(f"{line:<{min(60, max(map(len, lines)))}}  # {'line ' * number.isdecimal()}{number}")
    if chosen.left_out:
        typer.echo(f"\nleft out, for MRLCLIENT_MODEL names another model: {', '.join(chosen.left_out)}")
    typer.echo(f"\n{_in_words(reader)}")


@app.command("schema")
def schema(debug: Debug = False) -> None:
    """Print the JSON schema of mrlclient.toml, by which editors complete and explain its keys."""
    check_installed()
    from mrlclient.config.schema import schema as make
    from mrlclient.embedder import Embedder

    typer.echo(json.dumps(make(Embedder), indent=2, ensure_ascii=False))


def _resolved(reader: Reader) -> dict[str, Any]:
    """What a profile comes to."""
    first, *others = reader.specs
    facts: dict[str, Any] = {"model": first.address, "space": first.space, "dimensions": reader.widths}
    return facts | {"others": [spec.address for spec in others]}


def _in_words(reader: Reader) -> str:
    found = _resolved(reader)
    return f"{found['model']}, dimensions {' '.join(map(str, found['dimensions']))}, space {found['space']}"


def _without_passwords(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_passwords(name, each) for name, each in value.items()}
    hides = key in _ADDRESSES and isinstance(value, str) and ("@" in value or "password" in value)
    return "an address with a password, which is not shown" if hides else value
