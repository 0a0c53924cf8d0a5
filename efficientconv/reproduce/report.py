"""The plan, as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientconv.reproduce.estimate import Estimate
from efficientconv.reproduce.plan import PlannedRun
from efficientconv.reproduce.tier import Tier
from efficientconv.results.table import Column, Table
from efficientconv.text import duration, paragraph


def plan_text(runs: Sequence[PlannedRun], estimates: Mapping[Path, Estimate], tier: Tier, jobs: int) -> str:
    """Every run with its state and, where something is left to do, its estimate (by `run.record`); then their sums."""
    table = Table([(run, estimates.get(run.record)) for run in runs], [
        Column("row", lambda row: row[0].row),
        Column("seed", lambda row: row[0].config.seed),
        Column("state", lambda row: row[0].state),
        Column("epochs", lambda row: f"{row[0].epochs_done}/{row[0].config.trainer.epochs}"),
        Column("time left", lambda row: row[1] and ("?" if row[1].seconds is None else duration(row[1].seconds))),
        Column("disk MB", lambda row: row[1] and row[1].disk_bytes / 1e6, ".1f"),
        Column("rate from", lambda row: row[1] and row[1].rate_source),
    ])  # fmt: skip
    text = table.text() if runs else "nothing to train: arithmetic only"
    heading = f"tier {tier.name}: {tier.conditions}; records in {tier.folder / 'runs'}"
    sums = _sums(runs, list(estimates.values()), jobs)
    return f"{paragraph(heading)}\n{paragraph(tier.about)}\n\n{text}\n{paragraph(sums)}\n"


def _sums(runs: Sequence[PlannedRun], estimates: Sequence[Estimate], jobs: int) -> str:
    done = len(runs) - len(estimates)
    if not estimates:
        return f"{len(runs)} runs, all done" if runs else ""
    known = [estimate.seconds for estimate in estimates if estimate.seconds is not None]
    time = f"about {duration(sum(known))} one after the other" if known else "no time estimate: the data set is not here"
    together = f", {jobs} at a time" if jobs > 1 else ""
    disk = sum(estimate.disk_bytes for estimate in estimates) / 1e6
    return f"{len(runs)} runs: {done} done, {len(estimates)} to do{together}; {time}, {disk:.0f} MB of disk"
