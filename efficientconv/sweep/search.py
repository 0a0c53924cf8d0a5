"""A search for the setting with the best accuracy on held-out images: Optuna proposes and prunes, each trial is a run.

The study is a database in its folder, beside the trials' run folders. A search that was killed continues: the trial that
was cut off goes on in its folder, finished ones count. No trial looks at the test images.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState

from efficientconv.config import RunConfig
from efficientconv.data import fingerprint
from efficientconv.engine.continuation import found_data
from efficientconv.engine.epoch_log import read_records
from efficientconv.engine.identity import identity, run_name
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.files import lock, make_folder
from efficientconv.signals import Preempted, counted_signals
from efficientconv.sweep.job import Job
from efficientconv.sweep.outcome import Outcome
from efficientconv.sweep.ranges import suggest

OBJECTIVE = "val_top1_percent"
POLL_S = 0.1


class Search:
    """One study in its folder.

    Args:
        configure: from overrides to the configuration that they make with the fixed ones.

    Raises:
        UserError: no images are held out, the study asked something else before, or another process is at it.
    """

    def __init__(
        self, folder: Path, ranges: dict[str, BaseDistribution], configure: Callable[[Sequence[str]], RunConfig]
    ):
        base = configure([])
        if not base.data.val_fraction:
            raise UserError("a search never looks at the test images: hold out some others, with data.val_fraction=0.1")
        self.folder, self.ranges, self.configure, self.seed = folder, ranges, configure, base.seed
        found = found_data(base)
        self.images = None if found is None else fingerprint(found, base.data)
        make_folder(folder)
        busy = f"another process searches in {folder}; wait for it, or choose another --study"
        self.lock = lock(folder / "run.lock", busy)
        self.study = optuna.create_study(
            storage=f"sqlite:///{folder.absolute() / 'study.db'}", study_name=folder.name, direction="maximize",
            pruner=optuna.pruners.MedianPruner(), load_if_exists=True,
        )  # fmt: skip
        question = {key: distribution_to_json(ranges[key]) for key in sorted(ranges)} | {"fixed": identity(base)}
        question |= {"images": None if self.images is None else self.images.train}
        self._refuse_another(json.loads(json.dumps(question)))

    def run(self, trials: int, after_each: Callable[[], None]) -> None:
        """Until that many trials are finished, those of earlier starts among them. Raises Preempted, UserError."""
        with counted_signals() as signals:
            while (finished := sum(trial.state.is_finished() for trial in self.study.trials)) < trials:
                trial, reported = self._next()
                overrides = [suggest(trial, key, distribution) for key, distribution in self.ranges.items()]
                print(f"[{finished + 1}/{trials}] trial {trial.number}: {' '.join(overrides)}", flush=True)
                folder = self._claim(trial, overrides)
                outcome = self._train(trial, folder, reported, signals)
                self._tell(trial, folder, outcome)
                after_each()

    def run_of(self, trial: FrozenTrial) -> RunFolder:
        return RunFolder(self.folder / trial.user_attrs["run"])

    def _next(self) -> tuple[Trial, set[int]]:
        """The trial that was cut off, with the epochs it reported, or a new one.

        What is proposed depends on the seed, the trial's number and the results before it, not on where a search was cut.
        """
        trials = self.study.trials
        cut_off = [trial for trial in trials if trial.state == TrialState.RUNNING]
        number = cut_off[0].number if cut_off else len(trials)
        self.study.sampler = optuna.samplers.TPESampler(seed=self.seed + number)
        if cut_off:
            return Trial(self.study, cut_off[0]._trial_id), set(cut_off[0].intermediate_values)
        return self.study.ask(), set()

    def _claim(self, trial: Trial, overrides: Sequence[str]) -> RunFolder:
        config = self.configure(overrides)
        folder = RunFolder(self.folder / trial.user_attrs.get("run", run_name(config, self.images)))
        folder.prepare(config.model_copy(update={"run_dir": str(folder.path)}))
        trial.set_user_attr("run", folder.path.name)
        return folder

    def _train(self, trial: Trial, folder: RunFolder, reported: set[int], signals: Counter) -> Outcome | None:
        """How the trial's run ended; None when it was pruned."""
        job, running, pruned = Job(folder.path, {}, "--without-test"), True, False
        while running:
            time.sleep(POLL_S)
            running = job.running()  # asked before its last record and line are read
            _report(trial, folder, reported)
            if running and not job.asked and (signals or trial.should_prune()):
                pruned = not signals
                job.ask_to_end()
        if signals:
            raise Preempted
        return None if pruned else job.outcome()

    def _tell(self, trial: Trial, folder: RunFolder, outcome: Outcome | None) -> None:
        if outcome is None:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif outcome.state == "ok":
            self.study.tell(trial, read_records(folder.metrics_file)[-1][OBJECTIVE])
        elif outcome.state == "preempted":
            raise Preempted  # by somebody who ended the run alone
        elif outcome.exit_code == UserError.exit_code:
            raise UserError(outcome.reason)  # once that is mended, the same trial goes on
        else:
            self.study.tell(trial, state=TrialState.FAIL)

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


def _placeless(fixed: dict) -> dict:
    """Earlier versions told the images by their place."""
    return fixed | {"data": {key: value for key, value in fixed["data"].items() if key != "root"}}


def _report(trial: Trial, folder: RunFolder, reported: set[int]) -> None:
    for record in read_records(folder.metrics_file):
        if record["epoch"] not in reported:
            trial.report(record[OBJECTIVE], record["epoch"])
            reported.add(record["epoch"])
