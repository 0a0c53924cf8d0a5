"""Shows a sweep's jobs while they run: one line for each, updated in place on a terminal, otherwise once a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

from efficientconv.sweep.job import Job

LINE_S = 60.0  # between a job's lines where there is no terminal
REFRESH_S = 1.0  # between looks at the jobs' status


class Board:
    """The lines of up to `slots` jobs. Other lines of the sweep go through `log`, above these lines."""

    def __init__(self, slots: int, log: Callable[[str], None]):
        self.in_place, self.log = sys.stderr.isatty(), log
        self.bars = [
            tqdm(bar_format="{desc}", position=slot, leave=False, dynamic_ncols=True, disable=not self.in_place)
            for slot in range(slots)
        ]
        self.next_time: dict[int, float] = {}

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in reversed(self.bars):
            bar.close()

    def show(self, running: Mapping[int, Job]) -> None:
        """Updates the lines, if it is time. `running`: the jobs by slot."""
        now = time.monotonic()
        for slot, bar in enumerate(self.bars):
            job = running.get(slot)
            if now >= self.next_time.get(slot, 0.0 if self.in_place else now):
                if self.in_place:
                    bar.set_description_str(job.line() if job else "")
                elif job and job.started + LINE_S <= now:
                    self.log(job.line())
                self.next_time[slot] = now + (REFRESH_S if self.in_place else LINE_S)
