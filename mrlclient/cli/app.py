"""The commands, and how a run of one begins and ends."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from mrlclient.cli._console import ClosedStdout
from mrlclient.cli._messages import BROKEN, tell, tell_error, warnings_on_one_line
from mrlclient.cli._options import Debug, Session
from mrlclient.cli.cache import app as cache
from mrlclient.cli.config import app as config
from mrlclient.cli.demo import demo
from mrlclient.cli.embed import embed
from mrlclient.cli.models import models
from mrlclient.cli.probe import probe
from mrlclient.cli.sweep import sweep

app = typer.Typer(
    name="mrlclient",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("embed")(embed)
app.command("models")(models)
app.add_typer(cache, name="cache")
app.add_typer(config, name="config")
app.command("sweep")(sweep)
app.command("demo")(demo)
app.command("probe")(probe)


def _print_version(value: bool) -> None:
    if value:
        try:
            typer.echo(f"mrlclient {version('mrlclient')}")
        except PackageNotFoundError:
            typer.echo("mrlclient, not installed: run from its sources")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _mrlclient(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Matryoshka embeddings at any dimension, from any provider.

    The exit status is 0 when all went well; 1 when the reader of the output left early, or for a fault in mrlclient; 2
    for an error that one line on stderr says how to put right; 3 when a sweep has not enough evidence; 130 when
    interrupted.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
        arguments: What stands after the command's name.

    Returns:
        The exit status; see `mrlclient.__main__.main`.
    """
    session = Session()
    if sys.stdout is None:
        sys.stdout = ClosedStdout()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a sign gets a question mark, not an error.
        sys.stdout.reconfigure(errors="replace")
    with warnings_on_one_line(session):
        try:
            command = typer.main.get_command(app)
            status = command.main(list(arguments), prog_name="mrlclient", standalone_mode=False, obj=session)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read has left, as `head` does.
            status = BROKEN
        except Exception as error:
            status = tell_error(error, session)
        if session.note:
            tell("note", session.note, session)
        try:
            sys.stdout.flush()
        except OSError:
            # What is still in the buffer goes nowhere, or Python would complain once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status if isinstance(status, int) else 0
