"""The command as a user runs it: in a process of its own, or, for variants, in this one."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mrlclient
from mrlclient.__main__ import main

ROOT = Path(mrlclient.__file__).parents[1]


@dataclass
class Outcome:
    status: int
    out: bytes
    err: str

    @property
    def text(self):
        return self.out.decode()

    def refusal(self):
        """The one line on stderr that says what is wrong."""
        assert self.status == 2
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        assert line.endswith((".", "?", ")", "'"))
        assert "Traceback" not in line
        assert "canary" not in self.err + self.text
        return line


def environment(**extra):
    # Unbuffered, Python ends otherwise where nobody reads.
    unwanted = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONWARNINGS", "PYTHONUNBUFFERED")
    clean = {k: v for k, v in os.environ.items() if k not in unwanted}
    return clean | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"} | extra


def command(*arguments, options=()):
    return [sys.executable, *options, "-m", "mrlclient", *map(str, arguments)]


def run_in_bash(line, cwd=None, **env):
    """Runs a line of bash, in which `$MRL` is the command."""
    mrl = shlex.join(command())
    done = subprocess.run(
        ["bash", "-c", line.replace("$MRL", mrl)],
        capture_output=True,
        cwd=cwd,
        env=environment(**env),
        timeout=60,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr.decode())


def run(*arguments, stdin=b"", cwd=None, options=(), **env):
    """Runs the command in a process of its own."""
    done = subprocess.run(
        command(*arguments, options=options),
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=environment(**env),
        timeout=60,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr.decode())


class Runner:
    """Runs the command in this process."""

    def __init__(self, monkeypatch, capture):
        self._monkeypatch, self._capture = monkeypatch, capture

    def __call__(self, *arguments, stdin=b"", tty=()):
        streams = {"stdin": io.TextIOWrapper(io.BytesIO(stdin))}
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", streams["stdin"])
            for name in tty:
                patch.setattr(getattr(sys, name), "isatty", lambda: True)
            self._capture.readouterr()
            try:
                status = main([str(argument) for argument in arguments])
            except SystemExit as ended:
                status = ended.code
        out, err = self._capture.readouterr()
        return Outcome(status, out, err.decode())
