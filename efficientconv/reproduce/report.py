"""The plan, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from efficientconv.reproduce.estimate import Estimate
from efficientconv.reproduce.plan import PlannedRun
from efficientconv.reproduce.tier import Tier
from efficientconv.results.markdown import text_table


def plan_text(
    runs: Sequence[PlannedRun], pending: Sequence[PlannedRun], estimates: Sequence[Estimate], tier: Tier, jobs: int
) -> str:
    """Every run with its state and, where something is left to do, its time and disk; then their sums."""
    by_run = dict(zip(map(id, pending), estimates))
    rows = [_row(run, by_run.get(id(run))) for run in runs]
    header = ("row", "seed", "state", "epochs", "time left", "disk MB", "rate from")
    table = text_table(header, rows) if runs else "nothing to train: arithmetic only"
    return (
        f"tier {tier.name}: {tier.conditions}; records in {tier.folder / 'runs'}\n{tier.about}\n\n{table}\n"
        f"{_sums(runs, estimates, jobs)}\n"
    )


def _row(run: PlannedRun, estimate: Estimate | None) -> tuple[object, ...]:
    epochs = f"{run.epochs_done}/{run.config.trainer.epochs}"
    if estimate is None:
        return run.row, run.seed, run.state, epochs, "-", "-", "-"
    return (
        run.row, run.seed, run.state, epochs, _duration(estimate.hours), f"{estimate.disk_bytes / 1e6:.1f}",
        estimate.rate_source,
    )  # fmt: skip


def _sums(runs: Sequence[PlannedRun], estimates: Sequence[Estimate], jobs: int) -> str:
    done = len(runs) - len(estimates)
    if not estimates:
        return f"{len(runs)} runs, all done" if runs else ""
    known = [estimate.hours for estimate in estimates if estimate.hours is not None]
    hours = f"about {_duration(sum(known))} one after the other" if known else "no time estimate: the data set is not here"
    together = f", {jobs} at a time" if jobs > 1 else ""
    disk = sum(estimate.disk_bytes for estimate in estimates) / 1e6
    return f"{len(runs)} runs: {done} done, {len(estimates)} to do{together}; {hours}, {disk:.0f} MB of disk"


def _duration(hours: float | None) -> str:
    if hours is None:
        return "?"
    for unit, per_hour in (("d", 1 / 24), ("h", 1), ("min", 60)):
        if hours * per_hour >= 2:
            return f"{hours * per_hour:.1f} {unit}"
    return f"{hours * 3600:.0f} s"
