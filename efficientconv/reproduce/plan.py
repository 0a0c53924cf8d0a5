"""Which runs a table needs at a tier, and where each stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientconv.config import RunConfig
from efficientconv.engine.identity import identity, run_name
from efficientconv.engine.records import read_records
from efficientconv.engine.run_folder import RunFolder, run_folder
from efficientconv.engine.status import in_use
from efficientconv.errors import UserError
from efficientconv.results.record import record_of, write_record
from efficientconv.validation import validate

ComposeRun = Callable[[Sequence[str]], RunConfig]  # the edge to Hydra, handed in


@dataclass(frozen=True)
class PlannedRun:
    """One model and seed at a tier. `record` is the file that is kept of it once it is done."""

    model: str
    seed: int
    config: RunConfig
    folder: RunFolder
    record: Path

    @property
    def state(self) -> str:
        """done, missing, planned, or what became of it: running, cut off, preempted, failed, diverged."""
        state = "done" if self.record.exists() else self.folder.state()
        return "cut off" if state == "running" and not in_use(self.folder.path) else state

    @property
    def epochs_done(self) -> int:
        if self.state == "done":
            return self.config.trainer.epochs
        return len(read_records(self.folder.metrics_file))

    def keep_record(self) -> None:
        """Once the run is done; a record that is there stays as it is."""
        if self.state == "done" and not self.record.exists():
            write_record(record_of(self.folder), self.record.parent)


def plan_runs(
    models: Sequence[str], seeds: Sequence[int], tier: str, overrides: Sequence[str], compose: ComposeRun, results: Path
) -> list[PlannedRun]:
    """Seed by seed, so that a table that is cut short has all its rows. Raises UserError when overrides change the tier."""
    _refuse_another_tier(compose([f"tier={tier}"]), compose([f"tier={tier}", *overrides]), tier)
    configs = {model: compose([f"tier={tier}", f"model={model}", *overrides]).model_dump() for model in models}
    runs = []
    for seed in seeds:
        for model in models:
            config = validate(RunConfig, configs[model] | {"seed": seed})
            record = results / tier / "runs" / f"{run_name(config)}.json"
            runs.append(PlannedRun(model, seed, config, run_folder(config), record))
    return runs


def recipe(config: RunConfig) -> dict:
    """What the numbers of a tier depend on besides model and seed."""
    values = identity(config)
    return values | {"seed": None, "model": {key: values["model"].get(key) for key in ("layout", "width")}}


def _refuse_another_tier(plain: RunConfig, config: RunConfig, tier: str) -> None:
    """Numbers of one tier are comparable only while nothing that they depend on differs."""
    ours, theirs = identity(config), identity(plain)
    changed = [section for section in ours.keys() | theirs.keys() if ours.get(section) != theirs.get(section)]
    if changed:
        raise UserError(
            f"tier={tier} fixes all that its numbers depend on, and an override changes {', '.join(sorted(changed))}; "
            f"leave it out, or train it outside the table: python train.py tier={tier} ..."
        )
