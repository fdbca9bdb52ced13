"""What every command takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(slots=True)
class Session:
    """What the options of one run say to the run as a whole; `ctx.obj`."""

    debug: bool = False


def _remember_debug(ctx: typer.Context, value: bool) -> None:
    if value and isinstance(ctx.obj, Session):
        ctx.obj.debug = True


#: Taken before and after the command's name. Read through `Session`: the commands themselves have no use for it.
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", callback=_remember_debug, is_eager=True, help="On an error, show the traceback and not only a line."
    ),
]
