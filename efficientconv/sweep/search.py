"""Searches for the setting with the best accuracy on held-out images. Optuna proposes and prunes; each trial is a run.

The study is a database in its folder, beside the run folders of the trials. A search that was killed continues: a trial that
was cut off continues in its folder, and finished trials count. No trial evaluates the test images.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState

from efficientconv.arguments import require_writable
from efficientconv.config import RunConfig
from efficientconv.engine.continuation import found_data
from efficientconv.engine.epoch_log import read_records
from efficientconv.engine.identity import identity, run_name
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.files import lock
from efficientconv.results.figures import FIGURES
from efficientconv.signals import Preempted
from efficientconv.sweep.job import Job, Start
from efficientconv.sweep.outcome import RunOutcome
from efficientconv.sweep.pool import Pool, say
from efficientconv.sweep.ranges import Distribution, short, suggest
from efficientconv.text import duration

OBJECTIVE = "val_top1_percent"
MISTAKE = "mistake"  # of a trial: the line with which its last start ended
TRIAL_STATES = {
    TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed", TrialState.RUNNING: "running",
}  # fmt: skip
REASONS = {  # of trials that ended well, without a result on the test images
    TrialState.COMPLETE: "a trial of a search: the test images were not evaluated",
    TrialState.PRUNED: "a trial of a search, which ended it: its accuracy was below the median",
}


@dataclass
class Attempt:
    """One process that works on a trial."""

    trial: Trial
    reported: set[int]  # epochs
    epochs: int = 0  # of the whole trial
    pruned: bool = False


class Search:
    """One study in its folder.

    Args:
        configure: makes a configuration of a trial's overrides and the fixed ones.

    Raises:
        UserError: no images are held out, the study was begun with other settings, or another process searches in it.
    """

    def __init__(self, folder: Path, ranges: dict[str, Distribution], configure: Callable[[Sequence[str]], RunConfig]):
        base = configure([])
        if not base.data.val_fraction:
            raise UserError("a search does not evaluate test images: hold out training images, with data.val_fraction=0.1")
        self.folder, self.ranges, self.configure, self.seed = folder, ranges, configure, base.seed
        self.under_way: dict[Path, Attempt] = {}  # by run folder
        self.preempted = False
        found, self.fingerprint = found_data(base)
        if found is not None and found.train.labels.bincount().max() < 2:
            raise UserError("a search needs held-out images, and no class has two training images")
        require_writable(folder)
        busy = f"another process searches in {folder}; wait for it, or choose another --study"
        self.lock = lock(folder / "run.lock", busy)
        self.study = optuna.create_study(
            storage=_database(folder.absolute() / "study.db"), study_name=folder.name, direction="maximize",
            pruner=optuna.pruners.MedianPruner(), load_if_exists=True,
        )  # fmt: skip
        question: dict[str, object] = {key: distribution_to_json(ranges[key]) for key in sorted(ranges)}
        question |= {"fixed": identity(base), "images": None if self.fingerprint is None else self.fingerprint.train}
        self._refuse_another(json.loads(json.dumps(question)))

    def run(self, trials: int, jobs: int, after_each: Callable[[], None]) -> None:
        """Runs trials, `jobs` at a time, until `trials` trials are over, including those of earlier starts.

        Raises Preempted, and UserError for a mistake that concerns every trial.
        """
        self.trials, self.after_each = trials, after_each
        Pool(jobs).run(self._starts(), self._ended, self._watch)
        if self.preempted:
            raise Preempted

    def over(self) -> int:
        return sum(trial.state.is_finished() for trial in self.study.trials)

    def best(self) -> FrozenTrial | None:
        finished = self.study.get_trials(states=(TrialState.COMPLETE,))
        return max(finished, key=lambda trial: trial.value or 0.0, default=None)

    def run_of(self, trial: FrozenTrial) -> RunFolder:
        return RunFolder(self.folder / trial.user_attrs["run"])

    def _starts(self) -> Iterator[Start]:
        """The next trial, whenever one can start: the proposal uses the results of the trials that are over."""
        while not self.preempted and self.over() + len(self.under_way) < self.trials:
            attempt = self._next()
            overrides = [suggest(attempt.trial, key, distribution) for key, distribution in self.ranges.items()]
            title = f"trial {attempt.trial.number}"
            say(f"{title}: {' '.join(f'{key}={short(value)}' for key, value in attempt.trial.params.items())}")
            try:
                config = self.configure(overrides)
            except UserError as error:  # of this combination: a mistake in every one has ended the command at its start
                self._tell_failed(attempt.trial, RunOutcome(self.folder, "failed", error.exit_code, 0.0, str(error)))
                continue
            folder = self._claim(attempt, config)
            self.under_way[folder.path] = attempt
            yield Start(folder.path, title, ("--without-test",))

    def _next(self) -> Attempt:
        """An attempt at a trial that was cut off, or at a new trial.

        The proposal depends on the seed, the trial's number and the results before it, but not on interruptions of the
        search.
        """
        trials, under_way = self.study.trials, {attempt.trial.number for attempt in self.under_way.values()}
        cut_off = [trial for trial in trials if trial.state == TrialState.RUNNING and trial.number not in under_way]
        number = cut_off[0].number if cut_off else len(trials)
        self.study.sampler = optuna.samplers.TPESampler(seed=self.seed + number)
        if cut_off:
            return Attempt(Trial(self.study, cut_off[0]._trial_id), set(cut_off[0].intermediate_values))
        return Attempt(self.study.ask(), set())

    def _claim(self, attempt: Attempt, config: RunConfig) -> RunFolder:
        trial = attempt.trial
        name = trial.user_attrs.get("run", run_name(config, self.fingerprint))
        if self.folder / name in self.under_way:  # of another trial with the same setting
            name = f"{name}-trial{trial.number}"
        folder = RunFolder(self.folder / name)
        folder.prepare(config.model_copy(update={"run_dir": str(folder.path)}))
        trial.set_user_attr("run", name)
        attempt.epochs = config.trainer.epochs
        return folder

    def _watch(self, job: Job) -> None:
        """Reports new epochs to Optuna, which may prune the trial, but not after its last epoch: that saves no time."""
        attempt = self.under_way[job.folder]
        for record in read_records(RunFolder(job.folder).metrics_file):
            if record["epoch"] not in attempt.reported:
                attempt.trial.report(record[OBJECTIVE], record["epoch"])
                attempt.reported.add(record["epoch"])
        goes_on = job.running() and not job.asked and len(attempt.reported) < attempt.epochs
        if goes_on and attempt.trial.should_prune():
            attempt.pruned = True
            job.ask_to_end()

    def _ended(self, job: Job, outcome: RunOutcome) -> None:
        attempt = self.under_way.pop(job.folder)
        if attempt.pruned:
            told = self.study.tell(attempt.trial, state=TrialState.PRUNED)
        elif outcome.state == "ok":
            told = self.study.tell(attempt.trial, read_records(RunFolder(job.folder).metrics_file)[-1][OBJECTIVE])
        elif outcome.state == "preempted":
            self.preempted = True  # by a signal to the search, or to this run alone
            return
        elif outcome.exit_code == UserError.exit_code and attempt.trial.user_attrs.get(MISTAKE) != outcome.reason:
            attempt.trial.set_user_attr(MISTAKE, outcome.reason)
            raise UserError(f"{outcome.reason} (the same command tries this trial once more, and then goes on without it)")
        else:
            self._tell_failed(attempt.trial, outcome)
            return
        self._mark(RunFolder(job.folder), told.state)
        self._say(told, outcome)
        self.after_each()

    def _tell_failed(self, trial: Trial, outcome: RunOutcome) -> None:
        self._say(self.study.tell(trial, state=TrialState.FAIL), outcome)
        self.after_each()

    def _mark(self, folder: RunFolder, state: TrialState) -> None:
        """Writes into status.json how a trial ended. A later start of the run replaces the file."""
        if state in REASONS:
            told = {"trial": TRIAL_STATES[state], "reason": REASONS[state]}
            with suppress(OSError):  # a full disk: only lists of runs lack it
                folder.write_json("status.json", folder.read_json("status.json") | told)

    def _say(self, told: FrozenTrial, outcome: RunOutcome) -> None:
        best, value = self.best(), FIGURES[OBJECTIVE].show(told.value) or outcome.reason
        so_far = f"; best so far {FIGURES[OBJECTIVE].show(best.value)} (trial {best.number})" if best else ""
        at = f"{TRIAL_STATES[told.state]} after {duration(outcome.seconds)}"
        say(f"[{self.over()}/{self.trials}] trial {told.number} {at}: {value}{so_far}")

    def _refuse_another(self, question: dict) -> None:
        asked = self.study.user_attrs.get("question")
        if asked is None:
            self.study.set_user_attr("question", question)
            return
        asked = {"images": question["images"]} | asked | {"fixed": _placeless(asked["fixed"])}
        if asked != question:
            keys = [key for key in {**asked, **question} if asked.get(key) != question.get(key)]
            what = {"fixed": "other settings", "images": "other images"}.get(keys[0], f"another range of {keys[0]}")
            raise UserError(f"{self.folder} holds a search with {what}; choose another --study")


def _database(path: Path) -> optuna.storages.RDBStorage:
    """The database in the file. Its path is no part of an address, which a `?` in a folder's name would end."""
    connect = partial(sqlite3.connect, path, check_same_thread=False)
    return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})


def _placeless(fixed: dict) -> dict:
    """The settings without data.root, by which earlier versions identified the images."""
    return fixed | {"data": {key: value for key, value in fixed["data"].items() if key != "root"}}
