"""What the system says of this process and its machine; calls that macOS and Windows lack have substitutes.

Locks and folders are in files.py, signals in signals.py, kernels in native/build.py, kept memory in engine/device.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def is_first_process() -> bool:
    """Whether this is the first of the processes that torchrun started, or a process without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def cores() -> int:
    """The number of cores that this process may use; all cores if the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_fork() -> bool:
    """Whether child processes can get this process's memory by fork. On macOS fork is not safe with the system libraries."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Free memory of the machine or container, in bytes; no limit if the system does not say."""
    try:
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    except OSError:
        return sys.maxsize
    free = int(lines["MemAvailable"].split()[0]) * 1024
    try:
        return min(free, int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text()))
    except (OSError, ValueError):  # no such limit, or "max"
        return free
