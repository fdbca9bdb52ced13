"""The environments that the clients run in: one for each, made where it is missing, with the versions said here."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.processes import MissingError

HOME = Path(__file__).parent / ".envs"

_CORE = ("anyio==4.16.0", "httpcore2==2.16.2", "httpx2==2.16.2", "numpy==2.4.6", "tenacity==9.2.1")

#: What each environment holds. mrlclient itself is not installed: it is run from the checkout.
PACKAGES: dict[str, tuple[str, ...]] = {
    "mrlclient": (
        *_CORE,
        "apsw==3.54.1.0",
        "pybase64==1.5.1",
        "pysimdjson==7.0.2",
        "xxhash==4.1.0",
    ),
    "mrlclient-plain": _CORE,
    "openai": ("openai==3.54.0", "numpy==2.4.6"),
    "voyageai": ("voyageai==0.5.0", "numpy==2.4.6"),
    "pydantic-ai": ("pydantic-ai-slim[openai]==2.68.0", "numpy==2.4.6"),
    "langchain-openai": ("langchain-openai==1.7.3", "numpy==2.4.6"),
    "litellm": ("litellm==1.106.2", "numpy==2.4.6"),
    "catsu": ("catsu==0.1.8", "numpy==2.4.6"),
    "plot": ("matplotlib==3.11.2",),
}


class Environments:
    """Finds the interpreter of an environment, and makes the environment where it is missing.

    Args:
        own: Make none: run everything with this interpreter, as far as it is installed here.
    """

    def __init__(self, *, own: bool = False) -> None:
        self._own = own
        self._broken: dict[str, str] = {}

    def python(self, name: str) -> str:
        """The interpreter of an environment.

        Raises:
            MissingError: If it cannot be made, or this one is none of its kind.
        """
        if self._own:
            if name == "mrlclient-plain":
                raise MissingError("it needs an environment without the optional wheels")
            return sys.executable
        if name in self._broken:
            raise MissingError(self._broken[name])
        folder = HOME / name
        interpreter, made = folder / "bin" / "python", folder / ".made"
        wanted = "\n".join((sys.version, *PACKAGES[name]))
        if not made.exists() or made.read_text("utf-8") != wanted:
            print(f"# making the environment {name}", file=sys.stderr, flush=True)
            venv.create(folder, clear=True, with_pip=True)
            install = [str(interpreter), "-m", "pip", "install", "--quiet", *PACKAGES[name]]
            done = subprocess.run(install, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
                self._broken[name] = f"pip could not install it: {last}"
                raise MissingError(self._broken[name])
            made.write_text(wanted, encoding="utf-8")
        return str(interpreter)
