"""How the runs of a sweep ended: one record for each run, the table at the end, and the sweep's exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Literal, get_args

from efficientconv.results.configurations import configuration_table
from efficientconv.results.report.sources import find_sources
from efficientconv.results.table import Table
from efficientconv.signals import Preempted
from efficientconv.text import printable

REASON_WIDTH = 100  # characters
Ending = Literal["ok", "skipped", "failed", "diverged", "preempted"]  # skipped: it was done before


@dataclass(frozen=True)
class RunOutcome:
    """How one run of a sweep ended."""

    folder: Path
    state: Ending
    exit_code: int
    seconds: float  # of this sweep, not of earlier ones
    reason: str  # one line; empty where there is nothing to say


def skipped(folder: Path) -> RunOutcome:
    return RunOutcome(folder, "skipped", 0, 0.0, "")


def not_started(folder: Path) -> RunOutcome:
    """The outcome of a run that a signal stopped before its start."""
    return RunOutcome(folder, "preempted", Preempted.exit_code, 0.0, "not started")


def answer(outcomes: Sequence[RunOutcome]) -> str:
    """The text at a sweep's end: accuracy and cost by configuration, including runs done before; then `outcome_table`."""
    done = [outcome.folder for outcome in outcomes if outcome.state in ("ok", "skipped")]
    folders = [folder for folder in done if folder.exists()]  # a person may have moved or removed some meanwhile
    parts = [outcome_table(outcomes)]
    if folders:
        found = find_sources(folders)
        warnings = [f"warning: {printable(text)}" for text in found.warnings]
        parts = [*warnings, configuration_table([run.record for run in found.runs]).text(), "", *parts]
    return "\n".join(parts)


def outcome_table(outcomes: Sequence[RunOutcome]) -> str:
    """One line for each run that did not end well, and a last line that counts all runs."""
    rows = [
        {"run": o.folder.name, "state": o.state, "seconds": round(o.seconds), "reason": shorten(o.reason, REASON_WIDTH)}
        for o in outcomes if o.state not in ("ok", "skipped")
    ]  # fmt: skip
    counts = Counter(outcome.state for outcome in outcomes)
    total = ", ".join(f"{counts[state]} {state}" for state in get_args(Ending) if counts[state])
    return "\n".join([*([Table.of(rows).text()] if rows else []), f"{len(outcomes)} runs: {total}"])


def sweep_exit_code(outcomes: Sequence[RunOutcome]) -> int:
    """75 if a signal stopped the sweep, otherwise the exit code of the first run that failed, or 0."""
    codes = [outcome.exit_code for outcome in outcomes if outcome.exit_code]
    return Preempted.exit_code if Preempted.exit_code in codes else next(iter(codes), 0)
