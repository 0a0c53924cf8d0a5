"""The training's side of the loggers: starts a follower for each (follower.py); waits for it at the end, 30 s at most."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from efficientconv.config import LoggerConfig
from efficientconv.errors import UserError, did_you_mean

MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")  # of WANDB_MODE, including W&B's older names
TITLES = {"wandb": "W&B", "tensorboard": "TensorBoard"}  # by the name of the logger, which is also the name of its package
FOLLOWER = Path(__file__).with_name("follower.py")
WAIT_LIMIT_S = 30.0  # the longest time that a run waits for its loggers; a follower gives up 5 s earlier


class Loggers:
    """The loggers of a run: for each name in `settings` one process, a follower, in its own session.

    Signals to the training do not reach a follower. Only a pipe connects a follower with the training. When the training
    dies, the pipe ends, and the follower ends too.
    """

    def __init__(self, settings: dict[str, dict], folder: Path):
        self.folder = folder
        self.processes: dict[str, subprocess.Popen] = {}
        for name, values in settings.items():
            try:
                self.processes[name] = _start(name, values, folder)
            except OSError as error:
                _warn(name, f"is off: its process could not be started ({error.strerror})", folder)

    def finish(self) -> list[str]:
        """Ends the loggers after the training. Returns one line for each copy, which says where the copy is."""
        for process in self.processes.values():  # first all pipes are closed, so that the followers end at the same time
            process.stdin.close()
            process.stdin = None
        return [line for name, process in self.processes.items() if (line := self._finished(name, process))]

    def _finished(self, name: str, process: subprocess.Popen) -> str:
        try:
            said = process.communicate(timeout=WAIT_LIMIT_S)[0]
        except subprocess.TimeoutExpired:
            process.kill()  # W&B's follower has started wandb-core, which ends without its client
            process.wait()
            said = f"no answer for {WAIT_LIMIT_S:g} s"
        if process.returncode == 0:
            return said
        said = said or f"exit code {process.returncode}"
        _warn(name, f"may lack all after epoch {self._sent_epochs(name)} of this run ({said})", self.folder)
        return ""

    def _sent_epochs(self, name: str) -> int:
        try:
            return json.loads((self.folder / f"{name}.json").read_text())["sent_epochs"]
        except (OSError, ValueError, KeyError):
            return 0


def require_loggers(config: LoggerConfig) -> None:
    """Raises UserError at the start for a missing package or a wrong WANDB_MODE, which a logger would refuse later."""
    wanted = _wanted(config)
    for name in wanted:
        if find_spec(name) is None:
            raise UserError(f"logger={name} needs the package {name}: pip install {name}, or set logger=jsonl")
    mode = os.environ.get("WANDB_MODE") or MODES[0]
    if "wandb" in wanted and mode not in MODES:
        raise UserError(f"unknown WANDB_MODE={mode}: {did_you_mean(mode.lower(), MODES)}")


def start_loggers(config: LoggerConfig, folder: Path) -> Loggers:
    """Starts the loggers. config.yaml and facts.json must be in the folder. Raises nothing: a run works without loggers."""
    return Loggers(_wanted(config), folder)


def _start(name: str, settings: dict, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, FOLLOWER, name, folder, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip


def _wanted(config: LoggerConfig) -> dict[str, dict]:
    """The settings of each configured logger, without W&B if the environment switches it off."""
    wanted = config.model_dump(exclude_none=True)
    if os.environ.get("WANDB_MODE") == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true"):
        wanted.pop("wandb", None)
    return wanted


def _warn(name: str, message: str, folder: Path) -> None:
    again = shlex.join(["python", "scripts/track.py", str(folder), *([] if name == "wandb" else ["--to", name])])
    warnings.warn(f"{TITLES[name]} {message}; metrics.jsonl has it, this sends it: {again}", stacklevel=4)
