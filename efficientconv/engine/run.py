"""A training run from its configuration to its summary: train, save, evaluate, record, roll back if training diverges."""

from __future__ import annotations

import warnings

from efficientconv.config import RunConfig
from efficientconv.data.workers import end_workers
from efficientconv.engine.continuation import found_data, refuse_other_images
from efficientconv.engine.device import batch_that_fits_named, device_of_training
from efficientconv.engine.distributed import leave_world, start_world
from efficientconv.engine.divergence import Diverged
from efficientconv.engine.epoch_log import training_totals
from efficientconv.engine.metrics import Result
from efficientconv.engine.preemption import Preemption
from efficientconv.engine.reporter import EpochProgress, Reporter, RunState, epoch_line, headline, result_lines
from efficientconv.engine.run_folder import run_folder
from efficientconv.engine.store import RunStore
from efficientconv.engine.training import Training, build_training
from efficientconv.files import InUse
from efficientconv.info import git_state
from efficientconv.signals import Preempted
from efficientconv.text import clauses

ROLLBACK_LR_SCALE = 0.5
LEAST_LR_SCALE = ROLLBACK_LR_SCALE**3  # three rollbacks; the scale is in the checkpoint, so that a kill does not allow more


def train(config: RunConfig, preemption: Preemption | None = None, with_test: bool = True) -> dict:
    """Trains the run of `config` and returns its summary. Continues a run that was cut off; only reports a finished run.

    Args:
        preemption: the answer to signals, if it is installed already; None: a new one is installed.
        with_test: false: the run stops before it evaluates the test images, for a search; the summary is then empty.

    Raises:
        UserError: the configuration, data set or run folder cannot be used. Diverged: the loss is not finite.
        Preempted: a signal ended the run, and its state is saved.
    """
    world = start_world()
    found, fingerprint = world.main_first(lambda: found_data(config))
    folder = run_folder(config, fingerprint)
    folder.check(config)
    summary, reporter = folder.summary(), Reporter(folder.path, world.is_main)
    if summary is None:
        preemption = preemption or Preemption()
        preemption.together = world.size > 1
        preemption.install()
        training = build_training(config, world, preemption, found, fingerprint)
        store = RunStore(folder, training)
        try:
            summary = Run(training, store, reporter).fit(with_test)
        finally:
            end_workers()  # they would wait for Python's garbage collector, in a process that goes on
    elif world.is_main:
        folder.records()  # tells the user if records of the finished run are missing or damaged
        if fingerprint is not None:
            refuse_other_images(folder, config, fingerprint)
        reporter.say(f"already trained; delete {folder.path} to train it again")
    names = [name for name in ("", "ema_") if f"{name}top1" in summary]
    results = result_lines({name: Result.from_record(summary, name) for name in names})
    reporter.say(*results, f"run folder: {folder.path}", *map(clauses, reporter.copies))
    leave_world()
    return summary


class Run:
    """One start of a run: `training` holds the network and the data, `store` keeps the run, `reporter` shows it."""

    def __init__(self, training: Training, store: RunStore, reporter: Reporter):
        self.training, self.store, self.reporter = training, store, reporter
        self.config, self.trainer, self.world = training.config, training.trainer, training.world
        self.epochs = self.config.trainer.epochs
        self.code = git_state()  # read now: the files may change before the end

    def fit(self, with_test: bool = True) -> dict:
        """Trains the epochs that are left, evaluates the last one's weights on the test images, returns the summary."""
        self.world.main_first(self._take_folder)
        self.reporter.start_loggers(self.config.logger)
        try:
            with batch_that_fits_named(self.config.trainer, self.world.size):
                self._continue()
                self.train_epochs()
                summary = self._finish() if with_test else self._pause()
        except BaseException as error:
            self._end_early(error)
            if not isinstance(error, Preempted):  # after a signal there is no time to wait: the loggers end by themselves
                self.reporter.finish()
            raise
        self.reporter.finish()
        return summary

    def _take_folder(self) -> None:
        if not self.world.is_main:
            return
        self.store.take()
        facts, batch_size = self.training.facts, self.config.trainer.global_batch_size
        self.reporter.say(headline(self.store.folder.path, facts, batch_size, device_of_training(self.training.device)))
        if passed_over := self.training.data.passed_over:
            self.reporter.say(f"images: {passed_over}")
        self.reporter.say(f"images: {self.training.loader}")

    def _continue(self) -> None:
        path, folder = self.store.load(), self.store.folder
        if path is not None:
            self.reporter.say(f"continuing after step {self.trainer.step} ({path.name})")
        elif folder.metrics_file.exists():
            self.reporter.say(f"{folder.path} has no checkpoint: training starts anew")
        if self.world.is_main:
            # this epoch writes its record again, even if the record was written before the run was cut off
            self.store.log.restore()
        self.reporter.set_state("running", self.trainer.step)

    def train_epochs(self) -> None:
        """Trains the epochs that are left. Raises Preempted, with the state after a whole step, and Diverged."""
        while True:
            try:
                for epoch in range(self.trainer.epoch, self.epochs):
                    self._train(epoch)
                    self._evaluate(epoch)
                return
            except Diverged as error:
                if self.config.trainer.on_divergence == "stop" or self.trainer.lr_scale <= LEAST_LR_SCALE:
                    raise
                self._roll_back(error)

    def _train(self, epoch: int) -> None:
        steps = self.trainer.steps_per_epoch
        title = f"epoch {epoch + 1}/{self.epochs}"
        done, later = self.trainer.step - epoch * steps, (self.epochs - epoch - 1) * steps
        with self.reporter.epoch(title, steps, done, later) as progress:
            for _ in self.trainer.train_epoch(self.training.loader, epoch):
                progress.step(self.trainer.meter)
                self._between_steps(progress)
        # before the evaluation, which is cheap to repeat: the epoch is not
        self._save()
        self.training.share_damage()

    def _between_steps(self, progress: EpochProgress) -> None:
        """All processes decide the same: a signal, a clock or a bad loss in one process counts for all."""
        bad = self.trainer.watch.found(self.trainer.step)
        stop, save, bad = self.world.any(self.training.preemption.pending, self.store.due(), bad)
        if bad:
            self.trainer.require_finite()
        if stop:
            raise Preempted
        if save:
            self._save()
        self.reporter.beat(self.trainer.step, lambda: self._stands(progress))

    def _stands(self, progress: EpochProgress) -> dict:
        """The progress of the run, for status.json."""
        meter = self.trainer.meter
        return {
            "epoch": self.trainer.epoch + 1, "epochs": self.epochs, "loss": meter.result().loss,
            "seconds_left": progress.seconds_left(meter),
        }  # fmt: skip

    def _save(self) -> None:
        self.trainer.require_finite()
        self.store.save()

    def _evaluate(self, epoch: int) -> None:
        """Evaluates the held-out images and writes the record of the epoch."""
        meter = self.trainer.meter.reduce(self.world.add)
        record = {"epoch": epoch + 1, "step": self.trainer.step, "lr": self.trainer.last_lr}
        record |= meter.result().record("train_")
        if self.training.data.val is not None:
            for name, result in self.training.evaluate(self.training.data.val).items():
                record |= result.record(f"{name}val_")
        record |= {
            "train_seconds": meter.seconds,
            "images_per_s": meter.images_per_s,
            "data_wait_percent": meter.wait_percent,
        }
        if self.world.is_main:
            self.store.log.add(record)
            self.reporter.say(epoch_line(record, self.epochs))

    def _roll_back(self, error: Diverged) -> None:
        lr_scale = self.trainer.lr_scale * ROLLBACK_LR_SCALE
        if self.store.load() is None:
            raise error
        self.trainer.lr_scale = lr_scale
        if self.world.is_main:
            reason = str(error).partition(";")[0]
            warnings.warn(f"{reason}; back to step {self.trainer.step} with {lr_scale:g} times the rate", stacklevel=2)

    def _pause(self) -> dict:
        """Ends after the last epoch. The same command continues from here and evaluates the test images."""
        self.store.save_if_newer()
        self.reporter.set_state("trained", self.trainer.step)
        return {}

    def _finish(self) -> dict:
        """Evaluates the test images, for the only time, and writes the final weights and the summary."""
        self.store.save_if_newer()  # if the disk was full at the end of the last epoch
        summary = dict(self.training.facts)
        for name, result in self.training.evaluate(self.training.data.test).items():
            summary |= result.record(name)
        summary |= training_totals(self.store.log.values) | self.code
        if self.world.is_main:
            summary |= self.training.measured_time()  # last, so that nothing of the run comes after it
            self.store.write_results(summary)
        self.reporter.set_state("done", self.trainer.step)
        return summary

    def _end_early(self, error: BaseException) -> None:
        """Writes the reason to status.json. After a signal, saves the state first."""
        if isinstance(error, InUse):  # the folder was removed, and is another process's now
            return
        if isinstance(error, Preempted):
            self.store.save_if_newer()
        states: dict[type, RunState] = {Preempted: "preempted", Diverged: "diverged"}
        reason = str(error) or type(error).__name__
        self.reporter.set_state(states.get(type(error), "failed"), self.store.saved_step, reason)
