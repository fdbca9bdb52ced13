"""What every command takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer


@dataclass(slots=True)
class Session:
    """What the options of one run say to the run as a whole; `ctx.obj`."""

    debug: bool = False
    #: The names of the command's options.
    options: set[str] = field(default_factory=set)


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
