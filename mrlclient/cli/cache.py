"""`mrlclient cache`: what a cache holds and saved, and what to do with it."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from mrlclient.cli._console import console, percent, table
from mrlclient.cli._export import writer_for
from mrlclient.cli._options import Debug
from mrlclient.errors import ConfigurationError, MRLError

if TYPE_CHECKING:
    from mrlclient.cache.base import Cache, CacheStats
    from mrlclient.keys import Entry

T = TypeVar("T")

_SERVERS = ("redis", "rediss", "valkey", "valkeys", "unix")
_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class _Commands(TyperGroup):
    """Says what is wrong without quoting an address, which may hold a password."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            say = getattr(error, "format_message", None)
            if say is None or "@" not in str(say()):
                raise
        raise ConfigurationError("A cache command is a name, then one address, as in: mrlclient cache stats ADDRESS.")


app = typer.Typer(
    cls=_Commands,
    rich_markup_mode=None,
    help="See what a cache of embeddings holds and saved; bound it, empty it, check it, take it elsewhere.",
)

Address = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS",
        help="A path or sqlite:PATH; or redis://HOST:PORT/N, and so rediss, valkey, valkeys; or unix://PATH. "
        "A file that is not there is not made.",
    ),
]


@app.command("stats")
def stats(
    address: Address,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """What it holds, and what it was good for since it was made."""
    with closing(_cache_at(address)) as cache:
        found = _asked(cache.stats)
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"hit_rate": _hit_rate(found)}))
        return
    rate = _hit_rate(found)
    shown = table("", "")
    shown.show_header = False
    for name, value in (
        ("entries", f"{found.entries:,}"),
        ("bytes", f"{found.bytes:,}"),
        ("hits", f"{found.hits:,}"),
        ("misses", f"{found.misses:,}"),
        ("hit rate", "–" if rate is None else percent(rate)),
        ("tokens saved", f"{found.tokens_saved:,.0f}"),
        ("USD saved", f"{found.usd_saved:g}"),
    ):
        shown.add_row(name, value)
    console().print(shown)


@app.command("prune")
def prune(
    address: Address,
    max_bytes: Annotated[
        str | None,
        typer.Option(
            "--max-bytes",
            metavar="N[K|M|G]",
            help="What the file may take: the least recently used go until it fits. K is 1024, M 1024 K, G 1024 M.",
        ),
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option("--ttl", metavar="N[s|m|h|d]", help="What was made longer ago goes: seconds, or 12h, 30d."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Drop what is too old, and the least recently used of what is too much."""
    bounds: dict[str, Any] = {}
    if ttl is not None:
        bounds["ttl"] = _number(ttl, _TIMES, "--ttl takes seconds, or a number with s, m, h or d, such as 30d.")
    if max_bytes is not None:
        wrong = "--max-bytes takes bytes, or a number with K, M or G, such as 500M."
        bounds["max_bytes"] = int(_number(max_bytes, _SIZES, wrong))
    if not bounds:
        raise ConfigurationError("Nothing says what may stay. Give --max-bytes, --ttl or both.")
    with closing(_cache_at(address, **bounds)) as cache:
        dropped = _asked(cache.prune)
    typer.echo(f"{_entries(dropped)} dropped")


@app.command("clear")
def clear(
    address: Address,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    debug: Debug = False,
) -> None:
    """Drop everything. What it was good for stays counted."""
    with closing(_cache_at(address)) as cache:
        if not yes:
            held = _asked(cache.stats).entries
            if sys.stdin is None or not sys.stdin.isatty():
                raise ConfigurationError(f"This drops {_entries(held)}, and nobody can be asked here. Say --yes.")
            typer.echo(f"Drop {_entries(held)}? [y/N] ", nl=False, err=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                typer.echo("nothing dropped")
                return
        dropped = _asked(cache.clear)
    typer.echo(f"{_entries(dropped)} dropped")


@app.command("verify")
def verify(address: Address, debug: Debug = False) -> None:
    """Read everything, and drop what is damaged.

    The exit status is 2 if something was: the cache is sound then, but a disk or a memory may not be.
    """
    with closing(_cache_at(address)) as cache:
        good, dropped = _asked(cache.verify)
    typer.echo(f"{good:,} good, {dropped:,} dropped")
    if dropped:
        raise MRLError(
            f"{dropped:,} of {_entries(good + dropped)} damaged. They were dropped, and will be embedded again when "
            "they are wanted; check the disk or the server that holds the cache."
        )


@app.command("export")
def export(
    address: Address,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help=".parquet, or .npy: one float32 matrix, where all vectors are of one model and one width; "
            "their keys then stand in NAME.keys.txt.",
        ),
    ],
    debug: Debug = False,
) -> None:
    """Write all vectors to a file, as the provider sent them, for the owner's eyes only.

    There are no texts in a cache, and none in the file.
    """
    write = writer_for(output)
    with closing(_cache_at(address)) as cache:
        count = write(_items(cache), output)
    typer.echo(f"{_entries(count)} written to {output}")


def _cache_at(address: str, **bounds: Any) -> Cache:
    """The cache at an address, which has to be there.

    Raises:
        ConfigurationError: If there is none, or it cannot be bounded like that. A password is not shown.
    """
    scheme, colon, rest = address.partition(":")
    if colon and scheme in _SERVERS:
        from mrlclient.cache.redis import RedisCache

        if "max_bytes" in bounds:
            raise ConfigurationError("A server bounds itself: set its maxmemory, and leave --max-bytes out.")
        return RedisCache(address, **bounds)
    if address == "memory:":
        raise ConfigurationError("memory: is the memory of the process that embeds; nothing of it is here.")
    if "://" in address or not address.strip():
        from mrlclient.cache import open_cache

        return open_cache(address)  # which says what is wrong with it
    path = Path(rest if scheme == "sqlite" and colon else address).expanduser()
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        # It may be an address of a server with a typing error in it.
        raise ConfigurationError(
            f"There is no cache at {'that address' if '@' in address else path}. Nothing was made."
        )
    from mrlclient.cache.sqlite import SQLiteCache

    return SQLiteCache(path, **bounds)


def _asked(call: Callable[[], T]) -> T:
    """What a cache answers.

    Raises:
        ConfigurationError: If it fails, however it does.
    """
    try:
        return call()
    except MRLError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"The cache failed ({type(error).__name__}: {error}). Check that it is there."
        ) from error


def _items(cache: Cache) -> Iterator[Entry]:
    items = iter(_asked(cache.items))
    while (entry := _asked(lambda: next(items, None))) is not None:
        yield entry


def _hit_rate(found: CacheStats) -> float | None:
    asked = found.hits + found.misses
    return found.hits / asked if asked else None


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def _number(value: str, units: dict[str, int], wrong: str) -> float:
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?(\w?)", value.strip())
    if parts is None or parts[2] not in units or not 0 < float(parts[1]) < math.inf:
        raise ConfigurationError(wrong)
    return float(parts[1]) * units[parts[2]]
