"""One run of a sweep in its own process: `Job` is the sweep's side, `main` is the side of the process.

    python -m efficientconv.sweep.job RUN_FOLDER

trains the run of the folder's config.yaml. Exit codes and one-line errors are those of train.py.
"""

from __future__ import annotations

import argparse
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from efficientconv.signals import Preempted, guarded, leave_on_signals

if __name__ == "__main__":
    leave_on_signals(continues=True)  # now: the imports take seconds

import signal
import subprocess
import sys
import time

from efficientconv.config import RunConfig
from efficientconv.engine.divergence import Diverged
from efficientconv.engine.preemption import Preemption
from efficientconv.engine.run import train
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.files import ROOT, open_to_append
from efficientconv.sweep.outcome import Ending, RunOutcome
from efficientconv.text import duration, printable

ERROR_LINES = 40  # of a traceback, at most
_ENDINGS: dict[int, Ending] = {0: "ok", Diverged.exit_code: "diverged", Preempted.exit_code: "preempted"}


@dataclass(frozen=True)
class Start:
    """A start of the run whose configuration is in `folder`."""

    folder: Path
    title: str  # for people
    options: tuple[str, ...] = ()  # of `main`


class Job:
    """Starts a run in its own process. Its output is appended to log.txt in the run's folder.

    The process has its own session, so that Ctrl-C reaches it only through the sweep, and once. A pipe connects the two:
    when the sweep closes the pipe or dies, the run saves its state and ends.

    Args:
        environment: variables that are added to the sweep's own.
    """

    def __init__(self, start: Start, environment: dict[str, str]):
        self.folder, self.title, self.started, self.asked = start.folder, printable(start.title), time.monotonic(), False
        path = self.folder / "log.txt"
        try:
            log, self.log = open_to_append(path), open(path, "rb")  # kept open: the folder may be removed or moved
        except (OSError, UserError):  # the run itself will say what is wrong with its folder
            log = NamedTemporaryFile()  # type: ignore[assignment]
            self.log = open(log.name, "rb")
        with log:
            self.begin = self.shown = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", "efficientconv.sweep.job", self.folder, "--until-stdin-ends", *start.options],
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | {"PYTHONPATH": python_path()} | environment,
            )  # fmt: skip

    def running(self) -> bool:
        return self.process.poll() is None

    def ask_to_end(self) -> None:
        """Asks the run to save the current step and to end. Asked a second time, the run ends at once."""
        if self.asked:
            self.process.terminate()
        self.asked = True
        self.process.stdin.close()

    def new_warnings(self) -> list[str]:
        """The warnings that the run has printed since the last call."""
        data = self._log_from(self.shown)
        whole = data[: data.rfind(b"\n") + 1]
        self.shown += len(whole)
        return [line for line in whole.decode(errors="replace").splitlines() if line.startswith("warning: ")]

    def line(self) -> str:
        """The progress of the run, from its status.json."""
        at = f"starting, {duration(time.monotonic() - self.started)}"
        with suppress(UserError, KeyError, TypeError, ValueError):  # not there yet, or damaged
            status = RunFolder(self.folder).read_json("status.json")
            if status["pid"] == self.process.pid:
                at = _told(status)
        return f"{self.title}: {at}"

    def error(self) -> str:
        """The run's traceback, or its error in one line."""
        lines = self._lines()
        traces = [number for number, line in enumerate(lines) if line.startswith("Traceback ")]
        return "\n".join(lines[traces[-1] :][-ERROR_LINES:]) if traces else self._reason()

    def outcome(self) -> RunOutcome:
        """How the run ended. Call it only after the end."""
        code = self.process.returncode
        if self.asked and code == -signal.SIGTERM:
            code = Preempted.exit_code
        state = _ENDINGS.get(code, "failed")
        reason = "" if state == "ok" else self._reason()
        if code < 0:
            name = signal.Signals(-code).name
            hint = "; was there enough memory?" if name == "SIGKILL" else ""
            code, reason = 128 - code, f"killed by {name}{hint}"
        return RunOutcome(self.folder, state, code, time.monotonic() - self.started, reason)

    def _reason(self) -> str:
        lines = self._lines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return [f"exit code {self.process.returncode}", *lines[-1:], *errors[-1:]][-1]

    def _lines(self) -> list[str]:
        text = self._log_from(self.begin).decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()]

    def _log_from(self, position: int) -> bytes:
        self.log.seek(position)
        return self.log.read()


def _told(status: dict) -> str:
    """The progress in a status. Raises KeyError, TypeError or ValueError if it has no progress yet."""
    if status["state"] != "running":
        return printable(status["state"])
    now = status["progress"]
    return f"epoch {now['epoch']}/{now['epochs']}, loss {now['loss']:.3f}, {duration(now['seconds_left'])} left"


def python_path() -> str:
    """The PYTHONPATH with which another process finds this package."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def config_in(folder: Path) -> RunConfig:
    """The configuration of the run in `folder`, which may have been moved. Raises UserError if the folder holds no run."""
    return RunFolder(folder).config().model_copy(update={"run_dir": str(folder)})


def main() -> None:
    args = parse_args()
    preemption = Preemption()
    preemption.install()
    if args.until_stdin_ends:
        threading.Thread(target=_follow_stdin, args=(preemption,), daemon=True).start()
    train(config_in(args.folder), preemption, with_test=not args.without_test)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument(
        "--until-stdin-ends", action="store_true", help="save and leave (75) then, which is also when the sweep dies"
    )
    parser.add_argument("--without-test", action="store_true", help="stop before the look at the test images")
    return parser.parse_args()


def _follow_stdin(preemption: Preemption) -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock this thread would hold at the interpreter's end
        pass
    preemption.ask()


if __name__ == "__main__":
    guarded(main)
