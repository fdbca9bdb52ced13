"""How many threads a computation on this machine is worth."""

from __future__ import annotations

import os
import sys
from math import ceil
from pathlib import Path

#: Where Linux tells of the processors, and a container of its share (control groups, version 2).
_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usual_threads() -> int:
    """Threads for a process that may not use the whole machine; 0 where it may, and the runtime knows best.

    ONNX Runtime left to itself counts the machine's physical cores, whatever a container or `taskset` allows, and
    threads without a core of their own wait for one another.
    """
    if sys.platform != "linux":
        return 0
    processors, total = os.sched_getaffinity(0), os.cpu_count() or 1
    share = quota(_QUOTA)
    if len(processors) >= total and (share is None or share >= total):
        return 0
    cores = physical_cores(processors)
    return cores if share is None else min(cores, share)


def quota(file: Path) -> int | None:
    """The processors whose time a control group may use, rounded up; None where there is no bound."""
    try:
        allowed, period = file.read_text("ascii").split()
        return None if allowed == "max" else max(1, ceil(int(allowed) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def physical_cores(processors: set[int], topology: str = _TOPOLOGY) -> int:
    """The cores that these processors are: two threads of one core share its arithmetic."""
    try:
        return len({Path(topology.format(number)).read_text("ascii") for number in processors})
    except OSError:
        return len(processors)
