"""How the runs of a sweep ended: one record each, the table at the end, the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from efficientconv.signals import Preempted
from efficientconv.text import printable

STATES = ("ok", "skipped", "failed", "diverged", "preempted")
REASON_WIDTH = 100  # characters


@dataclass(frozen=True)
class Outcome:
    """Of one run of a sweep."""

    folder: Path
    state: str  # one of STATES; skipped: it was done before
    exit_code: int
    seconds: float  # of this sweep, not of earlier ones
    reason: str  # one line; empty where there is nothing to say


def skipped(folder: Path) -> Outcome:
    return Outcome(folder, "skipped", 0, 0.0, "")


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """As plain text, a line a run, and a last line that counts them."""
    rows = [("run", "state", "seconds", "reason")]
    rows += [
        (printable(o.folder.name), o.state, f"{o.seconds:.0f}", printable(shorten(o.reason, REASON_WIDTH))) for o in outcomes
    ]
    name, state, seconds = (max(len(row[column]) for row in rows) for column in range(3))
    lines = [f"{row[0]:<{name}}  {row[1]:<{state}}  {row[2]:>{seconds}}  {row[3]}".rstrip() for row in rows]
    counts = Counter(outcome.state for outcome in outcomes)
    total = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return "\n".join([*lines, f"{len(outcomes)} runs: {total}"])


def sweep_exit_code(outcomes: Sequence[Outcome]) -> int:
    """75 when a signal stopped the sweep, else that of the first run that failed, 0 when none did."""
    codes = [outcome.exit_code for outcome in outcomes if outcome.exit_code]
    return Preempted.exit_code if Preempted.exit_code in codes else next(iter(codes), 0)
