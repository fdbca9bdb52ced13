"""Processes that answer in lines of JSON: the server, and each client in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib costs start-up


class MissingError(Exception):
    """What is to be measured is not there; the message says why."""


class FailedError(Exception):
    """What is to be measured ended with an error, which it has printed."""


class Process:
    """A child process and the commands that it answers.

    Args:
        python: The interpreter that runs it.
        module: The module that calls `answer`.
        arguments: Its command line.
        variables: What it has in its environment beside ours; proxies are left out, for everything is on this machine.

    Raises:
        MissingError: If the child says that what it should run is not there.
        FailedError: If it ends instead of answering.
    """

    def __init__(self, python: str, module: str, *arguments: str, variables: Mapping[str, str] | None = None) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._child = subprocess.Popen(
            [python, "-W", "ignore", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=kept | {"PYTHONPATH": ROOT} | dict(variables or {}),
            cwd=ROOT,
            text=True,
        )
        try:
            self.hello = self._read()
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> Any:
        """What the child answers to a command."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._child.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise FailedError(f"{self._child.args!r} ended with {self._child.wait()}")
        answer = json.loads(line)
        if "missing" in answer:
            raise MissingError(answer["missing"])
        return answer["result"]

    def close(self) -> None:
        """Ends the child: it has nothing more to read."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def answer(start: Callable[[], tuple[Any, Mapping[str, Callable[..., Any]]]]) -> None:
    """The child's side: says hello with what `start` returns, then runs its commands until nothing more comes.

    A client that prints does not disturb: what it prints goes to the standard error.
    """
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(what: dict[str, Any]) -> None:
        lines.write(json.dumps(what) + "\n")
        lines.flush()

    try:
        hello, commands = start()
    except (ImportError, MissingError) as problem:
        say({"missing": str(problem)})
        return
    say({"result": hello})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            say({"result": commands[asked.pop("do")](**asked)})
        except MissingError as problem:
            say({"missing": str(problem)})


def cores() -> tuple[int | None, int | None]:
    """The server's core and the clients'; None where a system does not tell, or there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    there = sorted(os.sched_getaffinity(0))
    return (there[0], there[-1]) if len(there) > 1 else (None, None)


def pin(core: int | None) -> None:
    """Keeps this process and its threads on one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})
