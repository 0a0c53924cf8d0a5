"""The output of a run: lines and a progress bar for people, status.json for sweeps and schedulers, copies for loggers."""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from efficientconv.config import LoggerConfig
from efficientconv.engine.metrics import Meter, Result
from efficientconv.files import write_atomically
from efficientconv.help import WIDTH
from efficientconv.progress import Progress
from efficientconv.text import duration
from efficientconv.tracking.loggers import Loggers, start_loggers

HEARTBEAT_S = 15.0
TELLING_WAIT_PERCENT = 10.0
RunState = Literal["running", "trained", "done", "preempted", "failed", "diverged"]


class Reporter:
    """Reports on the run in `folder`. Only the main process shows anything."""

    def __init__(self, folder: Path, is_main: bool):
        self.folder, self.is_main = folder, is_main
        self.loggers = Loggers({}, folder)  # none before `start_loggers`
        self.copies: list[str] = []  # one line for each logger: where its copy is
        self.next_beat = 0.0

    def start_loggers(self, config: LoggerConfig) -> None:
        """Starts the loggers. config.yaml and facts.json must be in the folder."""
        if self.is_main:
            self.loggers = start_loggers(config, self.folder)

    def finish(self) -> None:
        """Ends the loggers, after the training has ended, well or not."""
        self.copies = self.loggers.finish()

    def say(self, *lines: str) -> None:
        if self.is_main:
            print(*lines, sep="\n", flush=True)

    def epoch(self, title: str, steps: int, done: int, later: int) -> EpochProgress:
        return EpochProgress(title, steps, done, later)

    def beat(self, step: int, progress: Callable[[], dict]) -> None:
        """Writes the state of a running run, at most every HEARTBEAT_S. `progress` is called only then: it may be slow."""
        if self.is_main and time.monotonic() >= self.next_beat:
            self.set_state("running", step, progress=progress())
            self.next_beat = time.monotonic() + HEARTBEAT_S

    def set_state(self, state: RunState, step: int, reason: str | None = None, progress: dict | None = None) -> None:
        """Writes status.json: state, last step, time, progress of a running run, and the reason why a run ended."""
        if not self.is_main:
            return
        values = {
            "state": state, "step": step, "reason": reason, "heartbeat": _now(),
            "host": socket.gethostname(), "pid": os.getpid(), "progress": progress or {},
        }  # fmt: skip
        try:
            write_atomically(self.folder / "status.json", (json.dumps(values, indent=2) + "\n").encode())
        except OSError:
            pass  # a full disk: the run itself says so when it cannot save


class EpochProgress(Progress):
    """Shows loss, top-1, images per second and the time left of the run.

        with EpochProgress("epoch 3/10", steps, done, later) as progress:
            progress.step(meter)

    later: steps of the epochs that follow, for the time left of the run.
    """

    def __init__(self, title: str, steps: int, done: int, later: int):
        super().__init__(title, steps, "steps", done)
        self.later = later

    def step(self, meter: Meter) -> None:
        """Counts one more step; `meter` has the sums of the epoch."""
        self.update(1, lambda: f"{describe(meter)}, {duration(self.seconds_left(meter))} left")

    def seconds_left(self, meter: Meter) -> float:
        """Seconds until the run ends, at this epoch's rate, without evaluation."""
        return meter.seconds / max(self.done, 1) * (self.total - self.done + self.later)


def describe(meter: Meter) -> str:
    result = meter.result()
    return f"loss {result.loss:.3f}, top-1 {result.top1_percent:.2f} %, {meter.images_per_s:.0f} images/s"


def headline(path: object, facts: dict, batch_size: int, device: str) -> str:
    return (
        f"{path}\n"
        f"model {facts['model_name']}, {facts['layout']}, width {facts['width']:g}: "
        f"{facts['macs'] / 1e6:.2f} M MACs, {facts['params'] / 1e6:.3f} M parameters\n"
        f"data {facts['data_name']}: {facts['num_train']} training images, {batch_size} a step, {device}"
    )


def epoch_line(record: dict, epochs: int) -> str:
    """The line of an epoch; two lines if one would be wider than 80. Another follows if the epoch waited long for data."""
    val = f", val {record['val_top1_percent']:.2f} %" if "val_top1_percent" in record else ""
    reached = f"loss {record['train_loss']:.3f}, top-1 {record['train_top1_percent']:.2f} %{val}"
    left = record["train_seconds"] * (epochs - record["epoch"])
    parts = [f"epoch {record['epoch']}/{epochs}: {reached}", f"{record['images_per_s']:.0f} images/s, {duration(left)} left"]
    line, wait = ", ".join(parts), record["data_wait_percent"]
    return (line if len(line) <= WIDTH else ",\n  ".join(parts)) + (
        f"\n{wait:.0f} % of the epoch's time went by waiting for data" if wait >= TELLING_WAIT_PERCENT else ""
    )


def result_lines(results: dict[str, Result]) -> list[str]:
    """One line for each of `results`, which are by the name of the weights: "", or "ema_" for their moving average."""
    titles = {"": "test", "ema_": "test, averaged weights"}
    return [
        f"{titles[name]}: top-1 {result.top1_percent:.2f} % ({result.top1} of {result.images}), "
        f"top-5 {result.top5_percent:.2f} %, loss {result.loss:.4f}"
        for name, result in results.items()
    ]


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
