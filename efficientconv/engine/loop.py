"""The epochs of a run: train, save, evaluate, record; and going back when training diverges."""

from __future__ import annotations

import warnings

from efficientconv.engine.divergence import Diverged
from efficientconv.engine.parts import Parts
from efficientconv.engine.progress import EpochProgress, images_per_s, wait_percent
from efficientconv.engine.records import Records
from efficientconv.engine.report import epoch_line
from efficientconv.engine.saver import Saver
from efficientconv.engine.status import Status
from efficientconv.signals import Preempted

ROLLBACKS, ROLLBACK_LR_SCALE = 3, 0.5


class Loop:
    """Trains what is left of a run's epochs."""

    def __init__(self, parts: Parts, saver: Saver, records: Records, status: Status):
        self.parts, self.saver, self.records, self.status = parts, saver, records, status
        self.trainer, self.world = parts.trainer, parts.world
        self.epochs = parts.config.trainer.epochs

    def run(self) -> None:
        """Raises Preempted, with the state as it was after a step; Diverged."""
        for rollback in range(ROLLBACKS + 1):
            try:
                for epoch in range(self.trainer.epoch, self.epochs):
                    self._train(epoch)
                    self._evaluate(epoch)
                return
            except Diverged as error:
                if self.parts.config.trainer.on_divergence == "stop" or rollback == ROLLBACKS:
                    raise
                self._roll_back(error)

    def _train(self, epoch: int) -> None:
        steps = self.trainer.steps_per_epoch
        title = f"epoch {epoch + 1}/{self.epochs}"
        done, later = self.trainer.step - epoch * steps, (self.epochs - epoch - 1) * steps
        with EpochProgress(title, steps, done, later, self.world.is_main) as progress:
            for _ in self.trainer.train_epoch(self.parts.loader, epoch):
                progress.update(self.trainer.meter)
                self._between_steps(progress)
        # before the evaluation, which is cheap to repeat: the epoch is not
        self._save()
        self.parts.share_damage()

    def _between_steps(self, progress: EpochProgress) -> None:
        """The processes decide alike: a signal, a clock or a bad loss in one of them counts for all."""
        bad = self.trainer.watch.found(self.trainer.step)
        stop, save, bad = self.world.any(self.parts.preemption.pending, self.saver.due(), bad)
        if bad:
            self.parts.require_finite()
        if stop:
            raise Preempted
        if save:
            self._save()
        if self.world.is_main:
            self.status.beat(self.trainer.step, lambda: self._stands(progress))

    def _stands(self, progress: EpochProgress) -> dict:
        """What status.json says of a run that goes on."""
        meter = self.trainer.meter
        return {
            "epoch": self.trainer.epoch + 1, "epochs": self.epochs, "loss": meter.result().loss,
            "seconds_left": progress.seconds_left(meter),
        }  # fmt: skip

    def _save(self) -> None:
        self.parts.require_finite()
        self.saver.save()

    def _evaluate(self, epoch: int) -> None:
        """On the held-out images; the epoch's record is written."""
        meter = self.trainer.meter.reduce(self.world.add)
        record = {"epoch": epoch + 1, "step": self.trainer.step, "lr": self.trainer.lr_at(self.trainer.step - 1)}
        record |= meter.result().record("train_")
        if self.parts.data.val is not None:
            for name, result in self.parts.evaluate(self.parts.data.val).items():
                record |= result.record(f"{name}val_")
        record |= {
            "train_seconds": meter.seconds,
            "images_per_s": images_per_s(meter),
            "data_wait_percent": wait_percent(meter),
        }
        if self.world.is_main:
            self.records.add(record)
            print(epoch_line(record, self.epochs), flush=True)

    def _roll_back(self, error: Diverged) -> None:
        lr_scale = self.trainer.lr_scale * ROLLBACK_LR_SCALE
        if self.saver.load() is None:
            raise error
        self.trainer.lr_scale = lr_scale
        if self.world.is_main:
            reason = str(error).partition(";")[0]
            warnings.warn(f"{reason}; back to step {self.trainer.step} with {lr_scale:g} times the rate", stacklevel=2)
