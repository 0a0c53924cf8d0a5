"""The training's side of Weights & Biases: starts wandb_follower.py, and at the end waits for it, a bounded time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from efficientconv.config import LoggerConfig
from efficientconv.errors import UserError, did_you_mean

MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")  # of WANDB_MODE, W&B's older names among them
FOLLOWER = Path(__file__).with_name("wandb_follower.py")
WAIT_LIMIT_S = 30.0  # all that a run ever waits for its tracker; the follower gives up 5 s earlier by itself


class Tracker:
    """Gets copies of what is written to the run folder. This one wants none: logger=jsonl or none."""

    def finish(self) -> None:
        """The training has ended, well or not."""


class WandbTracker(Tracker):
    """The follower, in a session of its own: no signal meant for the training reaches it.

    A pipe is all that ties them together. It ends when the training dies, and the follower ends after it.
    """

    def __init__(self, config: LoggerConfig, folder: Path):
        self.folder = folder
        settings = json.dumps(config.model_dump(exclude={"name"}))
        self.process = subprocess.Popen(
            [sys.executable, FOLLOWER, folder, settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip

    def finish(self) -> None:
        try:
            problem, _ = self.process.communicate("\n", timeout=WAIT_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()  # wandb-core, which it started, ends when its client is gone
            self.process.wait()
            problem = f"no answer for {WAIT_LIMIT_S:g} s"
        if self.process.returncode:
            problem = problem or f"exit code {self.process.returncode}"
            _warn(f"W&B may lack all after epoch {self._sent_epochs()} of this run ({problem})", self.folder)

    def _sent_epochs(self) -> int:
        try:
            return json.loads((self.folder / "wandb.json").read_text())["sent_epochs"]
        except (OSError, ValueError, KeyError):
            return 0


def require_tracker(config: LoggerConfig) -> None:
    """Raises UserError for what W&B would refuse at the end of the run: no such package, no such WANDB_MODE."""
    if not _is_wanted(config):
        return
    if find_spec("wandb") is None:
        raise UserError("logger=wandb needs the package wandb: pip install wandb, or set logger=jsonl")
    mode = os.environ.get("WANDB_MODE") or MODES[0]
    if mode not in MODES:
        raise UserError(f"unknown WANDB_MODE={mode}: {did_you_mean(mode.lower(), MODES)}")


def _is_wanted(config: LoggerConfig) -> bool:
    disabled = os.environ.get("WANDB_MODE") == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true")
    return config.name == "wandb" and not disabled


def start_tracker(config: LoggerConfig, folder: Path) -> Tracker:
    """Needs config.yaml and facts.json in the folder. Raises nothing: a run does without its tracker."""
    if not _is_wanted(config):
        return Tracker()
    try:
        return WandbTracker(config, folder)
    except OSError as error:
        _warn(f"W&B is off: its process could not be started ({error.strerror})", folder)
        return Tracker()


def _warn(message: str, folder: Path) -> None:
    warnings.warn(f"{message}; metrics.jsonl has it, this sends it: python scripts/track.py {folder}", stacklevel=3)
