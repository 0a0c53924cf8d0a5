"""The runs that a table needs at a tier, the state of each run, and their training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientconv.config import ModelConfig, RunConfig
from efficientconv.engine.epoch_log import read_records
from efficientconv.engine.identity import identity, run_name
from efficientconv.engine.run_folder import RunFolder, in_use, run_folder
from efficientconv.errors import UserError
from efficientconv.results.record import record_of, write_record
from efficientconv.sweep.outcome import outcome_table, sweep_exit_code
from efficientconv.sweep.pool import run_jobs
from efficientconv.validation import validate

ComposeRun = Callable[[Sequence[str]], RunConfig]  # the edge to Hydra, handed in


@dataclass(frozen=True)
class PlannedRun:
    """One row of a table and one seed at a tier. `records`: the folder of the records that keep finished runs."""

    row: str
    config: RunConfig
    records: Path

    @property
    def folder(self) -> RunFolder:
        return run_folder(self.config)

    @property
    def record(self) -> Path:
        return self.records / f"{run_name(self.config)}.json"

    @property
    def state(self) -> str:
        """The state of the run: done, missing, planned, running, cut off, preempted, failed or diverged."""
        state = "done" if self.record.exists() else self.folder.state()
        return "cut off" if state == "running" and not in_use(self.folder.path) else state

    @property
    def epochs_done(self) -> int:
        if self.state == "done":
            return self.config.trainer.epochs
        return len(read_records(self.folder.metrics_file))

    def keep_record(self) -> None:
        """Writes the record if the run is done. An existing record does not change."""
        if self.state == "done" and not self.record.exists():
            write_record(record_of(self.folder), self.records)


def plan_runs(models: Mapping[str, ModelConfig], seeds: Sequence[int], base: RunConfig, results: Path) -> list[PlannedRun]:
    """The runs, seed by seed, so that a table that is cut off early has all its rows. Rows with the same run share it.

    Args:
        models: by row.
        base: the tier's settings.
        results: the tier's folder of results.
    """
    runs: dict[Path, PlannedRun] = {}
    for seed in seeds:
        for row, model in models.items():
            config = validate(RunConfig, base.model_dump() | {"model": model.model_dump(), "seed": seed})
            run = PlannedRun(row, config, results / "runs")
            runs.setdefault(run.record, run)
    return list(runs.values())


def train(runs: Sequence[PlannedRun], jobs: int = 1) -> int:
    """Trains the runs, `jobs` at a time, and keeps the record of each. Returns the exit code."""
    by_folder = {run.folder.path: run for run in runs}
    outcomes = run_jobs([run.config for run in runs], jobs, ended=lambda outcome: by_folder[outcome.folder].keep_record())
    if outcomes:
        print(outcome_table(outcomes))
    return sweep_exit_code(outcomes)


def tier_config(tier: str, overrides: Sequence[str], compose: ComposeRun) -> RunConfig:
    """The tier's settings with the overrides of a command, with any model and seed.

    Raises UserError if an override changes a setting that the tier's numbers depend on: they must stay comparable. Also if
    an override names what the command chooses for each run.
    """
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key.split(".")[0] in ("model", "seed"):
            raise UserError(f"{override}: the rows of a table name the models, and seeds=0,1 names the seeds; leave it out")
    config = compose([f"tier={tier}", *overrides])
    ours, theirs = identity(config), identity(compose([f"tier={tier}"]))
    changed = [section for section in ours.keys() | theirs.keys() if ours.get(section) != theirs.get(section)]
    if changed:
        raise UserError(
            f"tier={tier} fixes the settings of its numbers, and an override changes {', '.join(sorted(changed))}; "
            f"leave it out, or train it outside the table: python train.py tier={tier} ..."
        )
    return config
