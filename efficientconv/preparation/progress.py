"""How far a long look through many images has come."""

from __future__ import annotations

import time
from typing import TextIO

from tqdm import tqdm

LINE_SECONDS = 30.0  # between lines of progress where there is no terminal


class Progress:
    """A bar on a terminal; elsewhere a line now and then, to `lines` (None: stdout)."""

    def __init__(self, title: str, total: int, unit: str = "images", lines: TextIO | None = None):
        self.title, self.total, self.unit, self.done, self.lines = title, total, unit, 0, lines
        self.bar = tqdm(total=total, desc=title, unit=f" {unit}", disable=None, leave=False, dynamic_ncols=True)
        self.start = self.line_time = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, count: int) -> None:
        self.done += count
        self.bar.update(count)
        now = time.monotonic()
        if self.bar.disable and now - self.line_time > LINE_SECONDS:
            per_s = self.done / (now - self.start)
            rate = f"{per_s:.0f} {self.unit}/s, {(self.total - self.done) / per_s:.0f} s left"
            print(f"{self.title}: {self.done}/{self.total} {self.unit}, {rate}", file=self.lines, flush=True)
            self.line_time = now
