"""Shows the progress of long work: a bar on a terminal, otherwise a line every 30 seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TextIO, TypeVar

from tqdm import tqdm

from efficientconv.system import is_first_process
from efficientconv.text import duration

LINE_S = 30.0  # between lines where there is no terminal
REFRESH_S = 0.5  # between refreshed figures on the bar

P = TypeVar("P", bound="Progress")


class Progress:
    """The progress of `total` units, of which `done` were done before. Lines go to `lines` (None: stdout).

        with Progress("preparing", 1000, "images") as progress:
            progress.update(16)

    The rate is that of all units since the start. Of the processes that torchrun started, only the first shows it.
    """

    def __init__(self, title: str, total: int, unit: str = "images", done: int = 0, lines: TextIO | None = None):
        self.title, self.total, self.unit, self.done, self.lines = title, total, unit, done, lines
        self.show = is_first_process()
        self.bar = tqdm(
            total=total, initial=done, desc=title, unit=f" {unit}", disable=None if self.show else True, leave=False,
            dynamic_ncols=True, colour=None if os.environ.get("NO_COLOR") else "green",
        )  # fmt: skip
        self.start = time.monotonic()
        self.next_time = self.start + (LINE_S if self.bar.disable else 0.0)

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, count: int, figures: Callable[[], str] | None = None) -> None:
        """Counts `count` more units. `figures` replaces rate and time left; it is called only when shown: it may be slow."""
        self.done += count
        self.bar.update(count)
        now = time.monotonic()
        if not self.show or now < self.next_time:
            return
        if self.bar.disable:
            shown = figures() if figures else self._rate(now - self.start)
            print(f"{self.title}: {self.done}/{self.total} {self.unit}, {shown}", file=self.lines, flush=True)
            self.next_time = now + LINE_S
        elif figures:
            self.bar.bar_format = "{bar:8} {desc}"
            self.bar.set_description_str(f"{self.title}: {figures()}")
            self.next_time = now + REFRESH_S

    def _rate(self, seconds: float) -> str:
        per_s = self.done / seconds
        return f"{per_s:.0f} {self.unit}/s, {duration((self.total - self.done) / per_s)} left"
