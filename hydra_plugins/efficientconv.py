"""Hydra's plugins for `train.py -m`: the sweeper `grid` and the launcher `local`.

grid composes every combination of the values, writes each configuration to its run folder, skips finished runs and gives
the other folders to the launcher. A job of any launcher trains the configuration in one run folder. local trains on this
machine, each run in its own process. joblib, submitit and ray are launchers of other packages. Hydra imports this file at
each start of a command, so slow imports stand where they are used.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from efficientconv.errors import UserError
from efficientconv.signals import Preempted, nothing_begun

if TYPE_CHECKING:
    from efficientconv.engine.run_folder import RunFolder
    from efficientconv.sweep.outcome import RunOutcome


@dataclass
class GridConf:
    _target_: str = f"{__name__}.GridSweeper"
    params: dict[str, str] | None = None  # overrides of each sweep, key by key, as hydra/sweeper=basic has them


@dataclass
class LocalConf:
    _target_: str = f"{__name__}.LocalLauncher"
    jobs: int = 1  # runs at a time: they divide the cores and the GPUs


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridConf, provider="efficientconv")
ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalConf, provider="efficientconv")


class GridSweeper(Sweeper):
    """Trains every combination, prints accuracy and cost by configuration, and leaves with the sweep's exit code."""

    hydra_context: HydraContext  # these three come with setup
    launcher: Launcher
    config: DictConfig

    def __init__(self, params: dict[str, str] | None = None):
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, train_folder, config)

    def sweep(self, arguments: list[str]) -> None:
        """Raises UserError for a mistake in any of the runs' configurations, before the first is started."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("a sweep trains each run in one process; leave torchrun out, or leave -m out")
        from efficientconv.cli import run_config, warn_of_unused

        configs = [run_config(values) for values in self.combinations(arguments)]
        warn_of_unused(configs)
        with nothing_begun():
            from efficientconv.sweep.outcome import answer, sweep_exit_code
            from efficientconv.sweep.pool import run_each
        outcomes = run_each(configs, self._launch)
        print(f"\n{answer(outcomes)}")
        sys.exit(sweep_exit_code(outcomes))

    def combinations(self, arguments: Sequence[str]) -> list[dict]:
        """The settings of each run, as `cli.entry` hands them to a command that trains one."""
        from efficientconv.overrides import completed, parsed

        loader = self.hydra_context.config_loader
        params = [f"{key}={value}" for key, value in self.params.items()]
        given = {override.get_key_element(): override for override in parsed([*params, *arguments], loader)}
        if any(override.is_interval_sweep() for override in given.values()):
            raise UserError("-m trains every combination of lists of values; to search ranges: scripts/tune.py")
        values = [[*map(f"{key}={{}}".format, _values(override))] for key, override in given.items()]
        if empty := [override.input_line for override, found in zip(given.values(), values) if not found]:
            raise UserError(f"{empty[0]} has no value, so that there is nothing to train")
        return [self._composed(completed("train", job)) for job in product(*values)]

    def _composed(self, overrides: list[str]) -> dict:
        from efficientconv.cli import plain

        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        HydraConfig.instance().set_config(config)  # for ${hydra:...}
        return plain(config)

    def _launch(self, folders: "list[RunFolder]") -> "list[RunOutcome]":
        """The outcome of the run of each folder."""
        from efficientconv.sweep.job import python_path

        os.environ["PYTHONPATH"] = python_path()  # a job may start in a folder that is not the repository
        os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")  # instead of USR2, which a training run does not know
        self.config.output_root = os.path.expanduser(self.config.output_root)  # a launcher's own folder is in there
        root = _override("output_root", self.config.output_root)
        jobs = [[_override("run_dir", str(folder.path.absolute())), root] for folder in folders]
        try:
            returns = self.launcher.launch(jobs, initial_job_idx=0)
        except Exception as error:  # there is no scheduler, or it ended a job: the launcher's own kinds of exception
            if isinstance(self.launcher, LocalLauncher):
                raise
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return [_found(folder, str(error).strip().partition("\n")[0]) for folder in folders]
        return [_returned(folder, result) for folder, result in zip(folders, returns)]


class LocalLauncher(Launcher):
    """Trains `jobs` run folders at a time on this machine."""

    def __init__(self, jobs: int = 1):
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        if task_function is not train_folder:
            raise UserError("hydra/launcher=local trains the folders that hydra/sweeper=grid writes; give both, or neither")
        if self.jobs < 1:
            raise UserError(f"hydra.launcher.jobs={self.jobs}: give 1 or more")
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        from efficientconv.engine.run_folder import RunFolder
        from efficientconv.sweep.pool import train_folders

        loader = self.hydra_context.config_loader
        jobs = [loader.load_sweep_config(self.config, list(overrides)) for overrides in job_overrides]
        outcomes = train_folders([RunFolder(Path(job.run_dir)) for job in jobs], self.jobs)
        return [
            JobReturn(overrides=overrides, cfg=job, status=JobStatus.COMPLETED, _return_value=outcome)
            for overrides, job, outcome in zip(job_overrides, jobs, outcomes)
        ]


def train_folder(cfg: DictConfig) -> "RunOutcome":
    """A job of any launcher except local, on any machine. A stopped job ends with exit code 75, without a result."""
    from efficientconv.sweep.job import config_in
    from efficientconv.sweep.pool import run_jobs

    (outcome,) = run_jobs([config_in(Path(cfg.run_dir))])
    if outcome.state == "preempted":
        sys.exit(Preempted.exit_code)
    return outcome


def _values(override: Any) -> list[str]:
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.get_value_element_as_str()]


def _override(key: str, value: str) -> str:
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def _returned(folder: "RunFolder", result: JobReturn) -> "RunOutcome":
    if result.status is JobStatus.COMPLETED:
        return result.return_value
    return _found(folder, str(result._return_value))


def _found(folder: "RunFolder", reason: str) -> "RunOutcome":
    """The outcome of a job without a result, from its folder."""
    from efficientconv.sweep.outcome import RunOutcome

    if folder.summary() is not None:
        return RunOutcome(folder.path, "ok", 0, 0.0, "")
    return RunOutcome(folder.path, "failed", 1, 0.0, f"left {folder.state()}: {reason}")
