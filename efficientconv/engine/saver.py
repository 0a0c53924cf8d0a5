"""When and how a run's state is saved: on time, never with numbers that are not finite, and without dying of a full disk."""

from __future__ import annotations

import shutil
import time
import warnings
from pathlib import Path

from efficientconv.engine.checkpoint import KEPT, load_newest, save_checkpoint
from efficientconv.engine.distributed import World
from efficientconv.engine.preemption import Preemption
from efficientconv.engine.records import Records
from efficientconv.engine.trainer import Trainer
from efficientconv.errors import UserError
from efficientconv.files import remove_leftovers


class Saver:
    """Checkpoints of `trainer` and `records` in `folder`, every `minutes` and whenever `save` is called.

    Only the main process writes.
    """

    def __init__(
        self, trainer: Trainer, records: Records, folder: Path, minutes: float, world: World, preemption: Preemption
    ):
        self.trainer, self.records, self.folder, self.seconds = trainer, records, folder, 60 * minutes
        self.world, self.preemption = world, preemption
        self.saved_step = 0
        self.next_time = time.monotonic() + self.seconds

    def due(self) -> bool:
        return time.monotonic() >= self.next_time

    def save(self) -> None:
        """A failure is told, and tried again at the next occasion: the run goes on, the checkpoint before stays."""
        self.next_time = time.monotonic() + self.seconds
        with self.preemption.shield():
            state = self.trainer.state_dict()  # all processes together
            state["records"] = self.records.text(self.trainer.epoch)
            if self.world.is_main:
                try:
                    save_checkpoint(self.folder, state)
                except OSError as error:
                    _warn(f"step {state['step']} could not be saved in {self.folder} ({error.strerror}); training goes on")
                    return
            self.saved_step = state["step"]

    def save_if_newer(self) -> None:
        if self.trainer.step > self.saved_step:
            self.save()

    def load(self) -> Path | None:
        """The newest sound checkpoint into trainer and records; its path, or None where there is none at all."""
        with self.preemption.shield():
            if self.world.is_main:
                remove_leftovers(self.folder)
            found = load_newest(self.folder, self.trainer.fault_in)
            if found is None:
                return None
            path, state = found
            self.trainer.load_state_dict(state)
            self.records.resume(self.trainer.epoch, state.get("records"))
            self.saved_step = self.trainer.step
            return path

    def check_space(self) -> None:
        """Raises UserError when the disk cannot hold the checkpoints that a run keeps, and the one being written."""
        values = sum(p.numel() for p in self.trainer.model.parameters())
        copies = 2 if self.trainer.ema is None else 3  # weights, momentum, moving average
        needed = values * 4 * copies * (KEPT + 1)
        free = shutil.disk_usage(self.folder.parent).free
        if free < needed:
            raise UserError(
                f"{self.folder.parent} has {free / 1e6:.0f} MB free, and checkpoints need {needed / 1e6:.0f} MB; "
                "free some, or choose another output_root"
            )


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
