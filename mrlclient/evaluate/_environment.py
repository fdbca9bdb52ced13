"""What a result was made by: the versions, and the machine."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np

from mrlclient.evaluate.outcome import Environment


def environment() -> Environment:
    """That of this process."""
    return Environment(
        mrlclient=version(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        numpy=np.__version__,
        platform=platform.platform(),
        processor=processor(),
        cores=os.cpu_count() or 1,
    )


def version() -> str | None:
    """Of the package; a tree that is not installed has none."""
    try:
        return metadata.version("mrlclient")
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return name
