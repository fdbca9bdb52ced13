"""The page on speed: what was measured goes between marks, and the words around it stay."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from mrlclient.evaluate._environment import processor

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
PLOT = PAGE.with_suffix(".svg")

_PLACE = re.compile(r"(<!-- measured:([\w-]+) -->\n).*?(<!-- /measured -->)", re.DOTALL)


def machine(command: str) -> str:
    """The machine, the day and the command, in a line."""
    return (
        f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, {datetime.now(UTC):%d %B %Y}: `{command}`"
    )


def places(text: str) -> set[str]:
    """The names of a page's places."""
    return {name for _, name, _ in _PLACE.findall(text)}


def filled(text: str, tables: Mapping[str, str]) -> str:
    """A page's text with what was measured put in.

    Raises:
        ValueError: If the page has a place for something else, or none for one of these.
    """
    differ = places(text) ^ set(tables)
    if differ:
        raise ValueError(f"the page and the run differ in {', '.join(sorted(differ))}")
    return _PLACE.sub(lambda place: f"{place[1]}{tables[place[2]]}\n{place[3]}", text)


def write(tables: Mapping[str, str], panels: Mapping[str, Mapping[str, float]], plotter: str) -> None:
    """Writes the page and the plot.

    Args:
        tables: What goes where.
        panels: The bars of the plot.
        plotter: An interpreter with matplotlib.
    """
    PAGE.write_text(filled(PAGE.read_text("utf-8"), tables), encoding="utf-8")
    command = [plotter, "-m", "benchmarks.plot", str(PLOT)]
    subprocess.run(command, input=json.dumps(panels), text=True, cwd=PAGE.parents[2], check=True)
