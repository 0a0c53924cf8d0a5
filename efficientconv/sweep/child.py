"""The parent's side of one run in a process of its own (job.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from efficientconv.engine.divergence import Diverged
from efficientconv.files import open_to_append
from efficientconv.signals import Preempted
from efficientconv.sweep.outcome import Outcome

ROOT = Path(__file__).resolve().parents[2]
ERROR_LINES = 40  # of a traceback, at most
_STATES = {0: "ok", Diverged.exit_code: "diverged", Preempted.exit_code: "preempted"}


class Child:
    """A run whose output goes to log.txt in its folder, after what earlier starts wrote there.

    It has a session of its own, so that a Ctrl-C reaches it through its parent only, and once. A pipe ties the two
    together: when it ends, because the parent closed it or died, the run saves its state and leaves.
    """

    def __init__(self, folder: Path, environment: dict[str, str], *options: str):
        self.folder, self.started, self.asked = folder, time.monotonic(), False
        with open_to_append(folder / "log.txt") as log:
            self.begin = self.shown = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", "efficientconv.sweep.job", folder, "--until-stdin-ends", *options],
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | {"PYTHONPATH": python_path()} | environment,
            )  # fmt: skip

    def running(self) -> bool:
        return self.process.poll() is None

    def ask_to_end(self) -> None:
        """It saves the step under way and leaves; asked again, it leaves at once."""
        if self.asked:
            self.process.terminate()
        self.asked = True
        self.process.stdin.close()

    def new_output(self) -> str:
        """What it has printed since this was last called."""
        data = self._log_from(self.shown)
        self.shown += len(data)
        return data.decode(errors="replace")

    def error(self) -> str:
        """Its traceback, or the line that says what was wrong."""
        lines = self._lines()
        traces = [number for number, line in enumerate(lines) if line.startswith("Traceback ")]
        return "\n".join(lines[traces[-1] :][-ERROR_LINES:]) if traces else self._reason()

    def outcome(self) -> Outcome:
        """Once it has ended."""
        code = self.process.returncode
        if self.asked and code == -signal.SIGTERM:
            code = Preempted.exit_code
        state = _STATES.get(code, "failed")
        reason = "" if state == "ok" else self._reason()
        if code < 0:
            code, reason = 128 - code, f"killed by {signal.Signals(-code).name}{_hint(-code)}"
        return Outcome(self.folder, state, code, time.monotonic() - self.started, reason)

    def _reason(self) -> str:
        lines = self._lines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return [f"exit code {self.process.returncode}", *lines[-1:], *errors[-1:]][-1]

    def _lines(self) -> list[str]:
        text = self._log_from(self.begin).decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()]

    def _log_from(self, position: int) -> bytes:
        with open(self.folder / "log.txt", "rb") as log:
            log.seek(position)
            return log.read()


def python_path() -> str:
    """With which another process finds this package."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def _hint(number: int) -> str:
    return "; was there enough memory?" if number == signal.SIGKILL else ""
