"""python train.py -m ...: every run of a sweep is composed and frozen in its folder first, then all are trained.

On this machine by pool.py, for Hydra's own launcher one at a time, for joblib's `hydra.launcher.n_jobs` at a time;
elsewhere by the launcher that is named, which gets the folders only. Of this package's files, this one, ranges.py,
overrides.py (the grammar) and cli.py know Hydra.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from joblib import effective_n_jobs
from omegaconf import DictConfig

from efficientconv import cli
from efficientconv.config import RunConfig
from efficientconv.engine.configure import run_config
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.signals import Preempted
from efficientconv.sweep.child import python_path
from efficientconv.sweep.job import frozen_config
from efficientconv.sweep.outcome import Outcome, outcome_table, skipped, sweep_exit_code
from efficientconv.sweep.pool import plan, run_jobs


def sweep(overrides: Sequence[str]) -> None:
    """Trains the runs that `overrides` span, prints how each ended, leaves with the sweep's exit code.

    Raises:
        UserError: a mistake in any of the runs' configurations, before the first is started.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a sweep trains each run in one process; leave torchrun out, or leave -m out")
    with cli.sweep_of("train", overrides) as (values, settings, loader):
        configs = [run_config(run) for run in values]
        launcher = settings.hydra.runtime.choices["hydra/launcher"]
        if launcher == "basic":
            outcomes = run_jobs(configs)
        elif launcher == "joblib":
            outcomes = run_jobs(configs, _jobs_at_a_time(settings.hydra.launcher.n_jobs))
        else:
            outcomes = _launch(configs, settings, loader)
    print(f"\n{outcome_table(outcomes)}")
    sys.exit(sweep_exit_code(outcomes))


def _jobs_at_a_time(n_jobs: int) -> int:
    """As joblib counts them: -1 for one a core. Raises UserError for what it refuses."""
    try:
        return effective_n_jobs(n_jobs)
    except ValueError as error:
        raise UserError(f"hydra.launcher.n_jobs={n_jobs}: {error}; give 1 or more, or -1 for one a core") from None


def _launch(configs: Sequence[RunConfig], settings: DictConfig, loader) -> list[Outcome]:
    """Through a launcher of Hydra's: what is not done yet becomes its jobs."""
    folders = plan(configs)
    waiting = [folder for folder in folders if folder.summary() is None]
    outcomes = {folder.path: skipped(folder.path) for folder in folders}
    outcomes |= {folder.path: result for folder, result in zip(waiting, _results(waiting, settings, loader))}
    return list(outcomes.values())


def _results(folders: Sequence[RunFolder], settings: DictConfig, loader) -> list[Outcome]:
    if not folders:
        return []
    os.environ["PYTHONPATH"] = python_path()  # a job starts in this folder, which need not be the repository
    os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")  # instead of USR2, which a training run does not know
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=train_frozen, config=settings)
    root = _override("output_root", settings.output_root)
    jobs = [[_override("run_dir", str(folder.path.absolute())), root] for folder in folders]
    try:
        returns = launcher.launch(jobs, initial_job_idx=0)
    except Exception as error:  # there is no scheduler, or it ended a job: the launcher's own kinds of exception
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return [_found(folder, str(error).strip().partition("\n")[0]) for folder in folders]
    return [_returned(folder, result) for folder, result in zip(folders, returns)]


def _override(key: str, value: str) -> str:
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def train_frozen(cfg: DictConfig) -> Outcome:
    """In the job, on whichever machine: what the folder's config.yaml says. A stopped one ends 75, without a result."""
    (outcome,) = run_jobs([frozen_config(Path(cfg.run_dir))])
    if outcome.state == "preempted":
        sys.exit(Preempted.exit_code)
    return outcome


def _returned(folder: RunFolder, result: JobReturn) -> Outcome:
    if result.status is JobStatus.COMPLETED:
        return result.return_value
    return _found(folder, str(result._return_value))


def _found(folder: RunFolder, reason: str) -> Outcome:
    """Of a job that brought no result: what its folder says."""
    if folder.summary() is not None:
        return Outcome(folder.path, "ok", 0, 0.0, "")
    return Outcome(folder.path, "failed", 1, 0.0, f"left {folder.state()}: {reason}")
