"""Tables that keep their shape: in colour on a terminal, plain in a pipe or a file."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Literal, TextIO

from mrlclient.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def console(file: TextIO | None = None) -> Console:
    """A console on `file`, or on stdout. NO_COLOR and COLUMNS are honoured."""
    from rich.console import Console

    # Rich takes NO_COLOR to allow bold; without a colour system nothing but the text is written.
    colors: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    made = Console(file=file, color_system=colors, highlight=False, markup=False, emoji=False)
    # The tables are made for 80 columns. Squeezed into fewer they would lose some: a narrow terminal wraps instead.
    made.width = max(made.width, 80)
    return made


def table(*heads: str, left: int = 1) -> Table:
    """An empty table with one space between columns, whose rows are never wrapped.

    Args:
        heads: The columns' heads.
        left: Columns from the left that hold words; the others hold numbers, and are aligned to the right.
    """
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for position, head in enumerate(heads):
        made.add_column(head, justify="left" if position < left else "right", no_wrap=True)
    return made


def percent(share: float) -> str:
    """A share with one digit after the point."""
    return f"{100 * share:.1f} %"


class ClosedStdout(io.TextIOBase):
    """Stands where the process was started without a standard output. It can be left alone, but not written to."""

    encoding = "utf-8"

    def write(self, text: str, /) -> int:
        """Refuses.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError("Standard output is closed, and there is nowhere else to write to. Leave it open.")
