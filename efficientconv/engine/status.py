"""Where a run stands, for people, sweeps and schedulers: status.json; and the lock that one process holds."""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from efficientconv import files

HEARTBEAT_S = 15.0
STATES = ("running", "trained", "done", "preempted", "failed", "diverged")


class Status:
    """status.json: state, the last step, a heartbeat and how far it is while it runs, and why it ended."""

    def __init__(self, folder: Path):
        self.path = folder / "status.json"
        self.next_beat = 0.0

    def beat(self, step: int, progress: Callable[[], dict]) -> None:
        """While running: often called, seldom written. `progress` is asked for only then: it may wait for the device."""
        if time.monotonic() >= self.next_beat:
            self.set("running", step, progress=progress())
            self.next_beat = time.monotonic() + HEARTBEAT_S

    def set(self, state: str, step: int, reason: str | None = None, progress: dict | None = None) -> None:
        assert state in STATES, state
        values = {
            "state": state, "step": step, "reason": reason, "heartbeat": _now(),
            "host": socket.gethostname(), "pid": os.getpid(), "progress": progress or {},
        }  # fmt: skip
        try:
            files.write_atomically(self.path, (json.dumps(values, indent=2) + "\n").encode())
        except OSError:
            pass  # a full disk: the run itself says so when it cannot save


def lock(folder: Path) -> int:
    """Holds the run folder for this process until it ends. Raises InUse when another one has it, else UserError."""
    return files.lock(folder / "run.lock", f"{folder} is in use by another process; wait for it, or choose another run_dir")


def in_use(folder: Path) -> bool:
    """Whether another process holds the run folder now. Not for a process that holds it: looking would drop its lock."""
    try:
        os.close(lock(folder))
    except files.InUse:
        return True
    return False


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
