"""What a person sees of an epoch: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from efficientconv.engine.metrics import Meter
from efficientconv.text import duration

LINE_SECONDS = 30.0  # between plain lines
REFRESH_SECONDS = 0.5  # between refreshed figures on the bar: reading them waits for the device


class EpochProgress:
    """Shows steps, loss, top-1, images a second and the share of time spent waiting for data.

        with EpochProgress("epoch 3/10", steps, done, later, show=True) as progress:
            progress.update(meter)

    later: steps of the epochs that follow, for the time left of the run.
    """

    def __init__(self, title: str, steps: int, done: int, later: int, show: bool):
        self.title, self.steps, self.done, self.later, self.show = title, steps, done, later, show
        self.on_terminal = show and sys.stderr.isatty()
        self.bar = tqdm(
            total=steps, initial=done, desc=title, unit="step", disable=not self.on_terminal, leave=False, dynamic_ncols=True
        )
        self.next_time = time.monotonic() + (REFRESH_SECONDS if self.on_terminal else LINE_SECONDS)

    def __enter__(self) -> EpochProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, meter: Meter) -> None:
        """After each step."""
        self.done += 1
        self.bar.update()
        if not self.show or time.monotonic() < self.next_time:
            return
        if self.on_terminal:
            self.bar.set_postfix_str(f"{describe(meter)}, {self._left(meter)}")
            self.next_time = time.monotonic() + REFRESH_SECONDS
        else:
            print(f"{self.title}: step {self.done}/{self.steps}, {describe(meter)}, {self._left(meter)}", flush=True)
            self.next_time = time.monotonic() + LINE_SECONDS

    def seconds_left(self, meter: Meter) -> float:
        """Of the run, at this epoch's rate; evaluation is not in it."""
        return meter.seconds / max(self.done, 1) * (self.steps - self.done + self.later)

    def _left(self, meter: Meter) -> str:
        return f"{duration(self.seconds_left(meter))} left"


def describe(meter: Meter) -> str:
    result = meter.result()
    return (
        f"loss {result.loss:.3f}, top-1 {result.top1_percent:.2f} %, {images_per_s(meter):.0f} images/s, "
        f"{wait_percent(meter):.0f} % waiting for data"
    )


def images_per_s(meter: Meter) -> float:
    return meter.images / meter.seconds if meter.seconds else 0.0


def wait_percent(meter: Meter) -> float:
    return 100 * meter.wait_seconds / meter.seconds if meter.seconds else 0.0
