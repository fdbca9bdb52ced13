"""What it costs to begin: the import, and the first answer of a fresh process."""

from __future__ import annotations

import os
import subprocess
from functools import partial

from benchmarks.bench import Bench, Case
from benchmarks.parts import Part, Section
from benchmarks.processes import ROOT, MissingError, pin
from benchmarks.tables import missing_row, number, table

#: What is imported, and in whose environment.
_IMPORTS = {
    "pass": "mrlclient",
    "import numpy": "mrlclient",
    "import mrlclient": "mrlclient",
    "from mrlclient import Embedder, OpenAI": "mrlclient",
    "import openai": "openai",
    "import voyageai": "voyageai",
    "import catsu": "catsu",
    "import litellm": "litellm",
}
_FIRST = ("httpx2", "mrlclient", "plain", "openai", "voyageai", "litellm")


def run(bench: Bench) -> Section:
    """Of fresh processes the fastest: whoever else is on the machine only ever adds to what they take."""
    bench.configure()
    rounds = max(bench.rounds, 7) if bench.rounds >= 5 else bench.rounds
    heads = ["", "CPU s"]
    imports = table(heads, _imports(bench, rounds))
    measured = bench.measure_fresh((Case(name, "first", {}) for name in bench.kept(_FIRST)), rounds)
    rows = [
        missing_row(each, len(heads)) if each.missing else [each.label, number(each.least("cpu"))] for each in measured
    ]
    return Section({"import": imports, "first": table(heads, rows)}, {})


def _imports(bench: Bench, rounds: int) -> list[list[str]]:
    seconds: dict[str, list[float]] = {code: [] for code in _IMPORTS}
    there = {code: name for code, name in _IMPORTS.items() if bench.kept([name])}
    # The first round writes bytecode and brings the files into memory.
    for number_of_round in range(rounds + 1):
        for code, contender in there.items():
            try:
                spent = _seconds(bench.python(contender), code, bench.core)
            except MissingError:
                continue
            if number_of_round and spent is not None:
                seconds[code].append(spent)
    return [
        [f"`{code}`" if code != "pass" else "Python alone", number(min(each))]
        if (each := seconds[code])
        else [f"`{code}`", "not available"]
        for code in there
    ]


def _seconds(python: str, code: str, core: int | None) -> float | None:
    """CPU seconds of a process, the system's included; None where the code fails."""
    child = subprocess.Popen(
        [python, "-W", "ignore", "-c", code],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        preexec_fn=partial(pin, core),
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime if child.returncode == 0 else None


PART = Part(run, ("import", "first"))
