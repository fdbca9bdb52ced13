"""`python -m mrlclient`, and the command `mrlclient`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: What stands after the command's name; by default what the process was started with.

    Returns:
        The exit status: 0; 1 for a reader that left early or a fault of ours, 2 for an error that the line on stderr
        says how to put right, 3 when a sweep has not enough evidence, 130 when interrupted.
    """
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        print(
            f"error: the command line needs {' and '.join(missing)}. Install with: pip install 'mrlclient[cli]'",
            file=sys.stderr,
        )
        return 2
    try:
        from mrlclient.cli.app import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
