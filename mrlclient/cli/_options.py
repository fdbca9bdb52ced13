"""Options that several commands take."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer


@dataclass(slots=True)
class Session:
    """What the options of one run say to the run as a whole; `ctx.obj`."""

    debug: bool = False
    #: The names of the command's options.
    options: set[str] = field(default_factory=set)
    #: How to go on, where a run ends early.
    note: str = ""


def _remember(ctx: typer.Context, debug: bool) -> None:
    if isinstance(ctx.obj, Session):
        ctx.obj.debug |= debug
        ctx.obj.options = {name for parameter in ctx.command.params for name in parameter.opts}


#: Taken before and after the command's name. Read through `Session`: the commands themselves have no use for it.
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", callback=_remember, is_eager=True, help="On an error, show the traceback and not only a line."
    ),
]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PROVIDER:MODEL",
        help="See 'mrlclient models'. By default MRLCLIENT_MODEL, else the embedded wordllama:l2-supercat-256.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME",
        help="Take the model and all the rest from this profile of the configuration; --dimensions may still be "
        "given. See 'mrlclient config'.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Likewise, from this file; its default profile, or --profile."),
]
Field = Annotated[
    str | None,
    typer.Option("--field", help="The field of a .jsonl object that holds the text. By default text."),
]
