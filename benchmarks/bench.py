"""One run: the server, the clients' processes, and rounds in which every client has its turn."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import TracebackType
from typing import Any, NamedTuple, Self

from benchmarks.clients import CONTENDERS, VARIABLES, Settings
from benchmarks.environments import Environments
from benchmarks.processes import FailedError, MissingError, Process, cores


class Case(NamedTuple):
    """Something to measure.

    Attributes:
        contender: Whose row it is.
        do: The command of `benchmarks.runner`.
        arguments: Its arguments.
        tls: Whether over TLS.
        settings: What the client is told beside the address.
        variables: What is in its environment beside what all have.
    """

    contender: str
    do: str
    arguments: Mapping[str, Any]
    tls: bool = False
    settings: Mapping[str, Any] = {}
    variables: Mapping[str, str] = {}


@dataclass
class Measured:
    """What came of a case.

    Attributes:
        case: What was measured.
        missing: Why it was not, or nothing.
        rounds: Each round's answer of the runner, with what the server saw meanwhile as `server requests` and so on.
    """

    case: Case
    missing: str = ""
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What the row is called."""
        return CONTENDERS[self.case.contender].label

    def median(self, name: str) -> float | None:
        """A value's median over the rounds; None where there is none."""
        values = self._values(name)
        return statistics.median(values) if values else None

    def least(self, name: str) -> float | None:
        """The least of a value over the rounds; None where there is none."""
        return min(self._values(name), default=None)

    def _values(self, name: str) -> list[float]:
        return [each[name] for each in self.rounds if each[name] is not None]


class Bench:
    """The server, and whoever is measured against it.

    Args:
        rounds: How many rounds count; one more comes before them.
        quick: Measure what is installed here, in few and small calls.
        skip: Contenders to leave out.

    Attributes:
        failed: Whether something that is there could not be measured.
    """

    def __init__(self, rounds: int, *, quick: bool = False, skip: Iterable[str] = ()) -> None:
        self.rounds = rounds
        self.quick = quick
        self.failed = False
        self._skip = frozenset(skip)
        self._environments = Environments(own=quick)
        self._stack = ExitStack()
        self.folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mrlclient-bench-"))
        server_core, self.core = cores()
        arguments = json.dumps((f"{self.folder}/ca.pem", server_core))
        try:
            self._server = self._stack.enter_context(Process(sys.executable, "benchmarks.server", arguments))
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def configure(self, latency: float = 0.0, *, floats: bool = False) -> None:
        """How the server answers from now on."""
        self._server.ask("configure", latency=latency, floats=floats)

    def answer_size(self, count: int, width: int, *, floats: bool = False) -> int:
        """Bytes of an answer."""
        size: int = self._server.ask("size", count=count, width=width, floats=floats)
        return size

    def kept(self, names: Sequence[str]) -> list[str]:
        """Those of the contenders that are not to be left out."""
        return [name for name in names if name not in self._skip]

    def python(self, contender: str) -> str:
        """The interpreter that a contender runs in.

        Raises:
            MissingError: If it is not to be had.
        """
        return self._environments.python(CONTENDERS[contender].environment)

    def plotter(self) -> str:
        """An interpreter with matplotlib: this one, where it has it.

        Raises:
            MissingError: If it is not to be had.
        """
        return sys.executable if find_spec("matplotlib") else self._environments.python("plot")

    def open(self, case: Case) -> Process:
        """Starts a contender's process.

        Raises:
            MissingError: If it is not to be had.
        """
        who = CONTENDERS[case.contender]
        scheme = "https" if case.tls else "http"
        told = Settings(
            f"{scheme}://127.0.0.1:{self._server.hello[scheme]}/v1",
            self.folder,
            f"http://127.0.0.1:{self._server.hello['http']}",
            variant=who.variant,
        )._replace(**case.settings)
        return Process(
            self.python(case.contender),
            "benchmarks.runner",
            json.dumps((who.module, self.core, *told)),
            variables=VARIABLES | case.variables,
        )

    def measure(self, cases: Iterable[Case], rounds: int | None = None, *, warm: bool = True) -> list[Measured]:
        """Runs all cases in turns, so that a busy machine is as busy for all of them.

        Args:
            cases: What to measure, each in a process of its own.
            rounds: Other than the run's own.
            warm: Whether a round comes first that does not count.
        """
        results = [Measured(case) for case in cases]
        with ExitStack() as stack:
            processes: list[tuple[Measured, Process]] = []
            for result in results:
                try:
                    process = stack.enter_context(self.open(result.case))
                    self._ask(process, "check")
                    if warm:
                        self._ask(process, result.case.do, **result.case.arguments)
                except (MissingError, FailedError) as problem:
                    self._leave_out(result, problem)
                else:
                    processes.append((result, process))
            for _ in range(rounds or self.rounds):
                for result, process in processes:
                    result.rounds.append(self._ask(process, result.case.do, **result.case.arguments))
        return results

    def measure_fresh(self, cases: Iterable[Case], rounds: int) -> list[Measured]:
        """As `measure`, each time in a process of its own, and every round counts."""
        results = [Measured(case) for case in cases]
        for _ in range(rounds):
            for result in (result for result in results if not result.missing):
                try:
                    with self.open(result.case) as process:
                        answer = self._ask(process, result.case.do, **result.case.arguments)
                        result.rounds.append(answer)
                except (MissingError, FailedError) as problem:
                    self._leave_out(result, problem)
        return results

    def _leave_out(self, result: Measured, problem: Exception) -> None:
        result.missing = str(problem)
        self.failed = self.failed or isinstance(problem, FailedError)
        print(f"# {result.label}: {problem}", file=sys.stderr, flush=True)

    def _ask(self, process: Process, do: str, **arguments: Any) -> dict[str, Any]:
        self._server.ask("seen")  # from here on
        answer: dict[str, Any] = process.ask(do, **arguments) or {}
        return answer | {f"server {name}": seen for name, seen in self._server.ask("seen").items()}
