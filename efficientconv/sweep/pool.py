"""Trains many runs, one or several at a time, each in its own process: a run that fails does not harm the others.

Finished runs are skipped, so that a repeated or larger sweep trains only what is missing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from efficientconv.config import RunConfig
from efficientconv.data import Fingerprint
from efficientconv.data.parallel import CORES, available_cores
from efficientconv.engine.continuation import found_data, refuse_other_images
from efficientconv.engine.run_folder import RunFolder, run_folder
from efficientconv.errors import UserError
from efficientconv.results.figures import FIGURES
from efficientconv.signals import counted_signals
from efficientconv.sweep.board import Board
from efficientconv.sweep.job import Job, Start
from efficientconv.sweep.outcome import RunOutcome, not_started, skipped
from efficientconv.text import duration

POLL_S = 0.1


def say(line: str) -> None:
    """Prints a line at once, above the lines that are updated in place."""
    tqdm.write(line)
    sys.stdout.flush()


def run_jobs(
    configs: Sequence[RunConfig],
    jobs: int = 1,
    log: Callable[[str], None] = say,
    ended: Callable[[RunOutcome], None] = lambda outcome: None,
) -> list[RunOutcome]:
    """Trains the runs that are not done, `jobs` at a time. Returns how each run ended, in the order of `configs`.

    A run's output is in log.txt in its folder; its warnings and progress are shown. After SIGINT, SIGTERM or SIGUSR1 the
    runs save their state and end as `preempted`; runs that were not started are `preempted` too. A second signal ends them
    at once.

    Args:
        ended: called with the outcome of each run as soon as it has ended.
    Raises:
        UserError: a run's folder cannot be made or belongs to another run. No run is started then.
    """
    return run_each(configs, lambda folders: train_folders(folders, jobs, log, ended), log)


def run_each(
    configs: Sequence[RunConfig],
    launch: Callable[[list[RunFolder]], list[RunOutcome]],
    log: Callable[[str], None] = say,
) -> list[RunOutcome]:
    """The same as `run_jobs`, but `launch` trains the runs that are not done. Raises UserError."""
    folders = write_configs(configs)
    if again := len(configs) - len(folders):
        log(f"{again} of {len(configs)} combinations are the same runs as others: what they differ in changes no result")
    waiting = [folder for folder in folders if folder.summary() is None]
    if len(waiting) < len(folders):
        log(f"{len(folders) - len(waiting)} of {len(folders)} runs were done already")
    outcomes = {folder.path: skipped(folder.path) for folder in folders}
    outcomes |= zip((folder.path for folder in waiting), launch(waiting) if waiting else [])
    return list(outcomes.values())


def train_folders(
    folders: Sequence[RunFolder],
    jobs: int = 1,
    log: Callable[[str], None] = say,
    ended: Callable[[RunOutcome], None] = lambda outcome: None,
) -> list[RunOutcome]:
    """Trains the run of each folder, `jobs` at a time. The arguments are those of `run_jobs`."""
    outcomes: dict[Path, RunOutcome] = {}

    def collect(job: Job, outcome: RunOutcome) -> None:
        outcomes[job.folder] = outcome
        number = f"[{len(outcomes)}/{len(folders)}] " if len(folders) > 1 else ""  # alone it may be one of a launcher's many
        log(f"{number}{job.title} {_said(outcome)}")
        error = job.error()
        if outcome.state == "failed" and error != outcome.reason:
            log(f"{error}\n(all of it: {job.folder / 'log.txt'})")
        ended(outcome)

    Pool(min(jobs, len(folders)), log).run((Start(folder.path, folder.path.name) for folder in folders), collect)
    return [outcomes.get(folder.path) or not_started(folder.path) for folder in folders]


def _said(outcome: RunOutcome) -> str:
    summary = RunFolder(outcome.folder).summary() if outcome.state == "ok" else None
    result = f"top-1 {FIGURES['top1_percent'].show(summary['top1_percent'])} %" if summary else outcome.reason
    return ": ".join(filter(None, [f"{outcome.state}, {duration(outcome.seconds)}", result]))


def write_configs(configs: Sequence[RunConfig]) -> list[RunFolder]:
    """The folders of the distinct runs. Each holds its configuration, so that later edits of files do not change the run."""
    folders: dict[Path, RunFolder] = {}
    fingerprints: dict[str, Fingerprint | None] = {}  # by the settings of the data set
    one = configs[0].run_dir if configs else None
    if one is not None and [config.run_dir for config in configs[1:]].count(one):
        raise UserError(f"run_dir={one} is the folder of one run, not of {len(configs)}; set output_root instead")
    for config in configs:
        place = config.data.model_dump_json()
        if place not in fingerprints:
            fingerprints[place] = _fingerprint(config)
        fingerprint = fingerprints[place]
        folder = run_folder(config, fingerprint)
        folder.check(config)
        if folder.summary() is None:
            folder.prepare(config)
        elif fingerprint is not None:
            refuse_other_images(folder, config, fingerprint)
        folders[folder.path] = folder
    return list(folders.values())


def _fingerprint(config: RunConfig) -> Fingerprint | None:
    """As of found_data; None also if the images are missing or damaged: the start of this run then reports the fault."""
    try:
        _, fingerprint = found_data(config)
    except UserError:
        return None
    return fingerprint


def shares(jobs: int) -> list[dict[str, str]]:
    """The share of the machine for each of `jobs` simultaneous runs, as environment variables.

    A share has cores and, if there are several GPUs, one of them. A run alone gets the whole machine.
    """
    return [_cores(jobs) | _gpu(slot) for slot in range(jobs)] if jobs > 1 else [{}]


def _cores(jobs: int) -> dict[str, str]:
    """Limits torch's threads, the kernels' threads and the workers that decode images. OMP_NUM_THREADS of the user stays."""
    cores = str(max(available_cores() // jobs, 1))
    return {CORES: cores, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", cores)}


def _gpu(slot: int) -> dict[str, str]:
    gpus = _visible_gpus()
    return {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if len(gpus) > 1 else {}


def _visible_gpus() -> list[str]:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(number) for number in range(torch.cuda.device_count())] if given is None else given.split(",")


class Pool:
    """Runs `jobs` processes at a time, each with its share of the machine, and shows their progress and warnings."""

    def __init__(self, jobs: int, log: Callable[[str], None] = say):
        self.log = log
        self.shares = dict(enumerate(shares(jobs)))
        self.running: dict[int, Job] = {}  # by share
        self.obeyed = 0  # number of signals that were answered

    def run(
        self,
        starts: Iterator[Start],
        ended: Callable[[Job, RunOutcome], None],
        watch: Callable[[Job], None] = lambda job: None,
    ) -> None:
        """Starts the next of `starts` when a share is free. At a signal the running jobs save their state; no job starts.

        Args:
            ended: called with each job as soon as it has ended.
            watch: called again and again with each running job.
        """
        with counted_signals() as signals, Board(len(self.shares), self.log) as board:
            try:
                while self._start(starts):
                    time.sleep(POLL_S)
                    self._collect(ended, watch)
                    board.show(self.running)
                    if signals.total() > self.obeyed:
                        self.obeyed, starts = signals.total(), iter(())
                        self._ask_to_end()
                        self.log("stopped by a signal; the same command continues")
            finally:  # no process is left if `starts`, `ended` or `watch` raises
                self._ask_to_end()
                for job in self.running.values():
                    job.process.wait()

    def _start(self, starts: Iterator[Start]) -> bool:
        """Starts jobs on the free shares. Returns whether any job is running."""
        free = [slot for slot in self.shares if slot not in self.running]
        for slot, start in zip(free, starts):
            self.running[slot] = Job(start, self.shares[slot])
        return bool(self.running)

    def _collect(self, ended: Callable[[Job, RunOutcome], None], watch: Callable[[Job], None]) -> None:
        for slot, job in list(self.running.items()):
            over = not job.running()  # asked before its last output is read
            for warning in job.new_warnings():
                self.log(f"{job.title}: {warning}")
            watch(job)
            if over:
                del self.running[slot]
                ended(job, job.outcome())

    def _ask_to_end(self) -> None:
        for job in self.running.values():
            job.ask_to_end()
