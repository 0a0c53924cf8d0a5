"""Runs the stages one after another, each in its own process with a time limit. Results are written after each stage.

If a stage is cut off with fewer rows than it had before, the earlier rows stay.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from efficientconv.files import ROOT, read_json, write_atomically
from efficientconv.gpu_day.bench import Row
from efficientconv.gpu_day.stages import STAGES, Stage

REMEDY = "delete it, and the stage is measured again"
TINY = "-tiny"  # end of the name of a folder whose times mean nothing
TINY_PATIENCE = 10  # factor of the limit, for a CPU that does other work at the same time


@dataclass(frozen=True)
class Outcome:
    """The content of a stage's file. state: done, cut off (by the time limit) or failed; rows that were measured stay."""

    stage: str
    state: str
    reason: str
    seconds: float
    environment: dict
    rows: list[Row]


class Day:
    """A folder of results: <stage>.json for every stage that was tried, and <stage>.log for stages that are not done.

    again: measure the stages that are done, too.
    """

    def __init__(self, folder: Path, device: str, tiny: bool, stages: Sequence[Stage] = STAGES, again: bool = False):
        self.folder, self.device, self.tiny, self.stages, self.again = folder, device, tiny, stages, again

    def call(self, stage: Stage) -> list[str]:
        """The command of a stage's process."""
        return [sys.executable, "-m", "efficientconv.gpu_day.job", stage.name, self.device, *["tiny"] * self.tiny]

    def outcome(self, stage: Stage) -> Outcome | None:
        """The outcome of a stage; None if it was not tried. Raises UserError for a damaged file."""
        values = read_json(self.folder / f"{stage.name}.json", dict, REMEDY)
        return None if values is None else Outcome(**values)

    def left(self) -> list[Stage]:
        """The stages to measure."""
        outcomes = ((stage, self.outcome(stage)) for stage in self.stages)
        return [stage for stage, found in outcomes if self.again or found is None or found.state != "done"]

    def run(self, written: Callable[[Outcome], None]) -> list[Outcome]:
        """Runs the stages that are left. Calls `written` after each stage, when the results lie in the folder."""
        outcomes = []
        for stage in self.left():
            outcomes.append(self._run(stage))
            written(outcomes[-1])
        return outcomes

    def _run(self, stage: Stage) -> Outcome:
        rows, log = self.folder / f"{stage.name}.rows.jsonl", self.folder / f"{stage.name}.log"
        earlier, started = self.outcome(stage), time.monotonic()
        with open(rows, "wb") as out, open(log, "wb") as err:
            state, reason = self._waited_for(stage, out, err)
        about, *measured = _whole_lines(rows) or [{}]
        if state == "failed":
            reason = ([reason, *log.read_text(errors="replace").strip().splitlines()])[-1]
        outcome = Outcome(stage.name, state, reason, round(time.monotonic() - started, 1), about, measured)
        if state == "done" or earlier is None or len(measured) >= len(earlier.rows):
            write_atomically(self.folder / f"{stage.name}.json", (json.dumps(asdict(outcome), indent=1) + "\n").encode())
        rows.unlink()
        if state == "done":
            log.unlink()
        return outcome

    def _waited_for(self, stage: Stage, out: IO[bytes], err: IO[bytes]) -> tuple[str, str]:
        """Returns (state, reason). The process and all that it started end here in every case."""
        child = subprocess.Popen(self.call(stage), cwd=ROOT, stdout=out, stderr=err, start_new_session=True)
        limit_s = stage.seconds * (TINY_PATIENCE if self.tiny else 1)
        try:
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return "cut off", f"after its {limit_s} s"
        finally:
            _end(child)
        return ("failed", f"exit code {code}") if code else ("done", "")


def _whole_lines(path: Path) -> list[dict]:
    """The lines of a file, without a last line that a killed process left half written."""
    text = path.read_text(errors="replace")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _end(child: subprocess.Popen) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:  # all processes have ended already
        pass
    child.wait()
