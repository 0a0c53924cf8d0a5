"""Keeps a run: its folder, the log of its epochs, its checkpoints. A full disk does not end the run."""

from __future__ import annotations

import shutil
import time
import warnings
from functools import partial
from pathlib import Path

from efficientconv.engine.checkpoint import KEPT, load_newest, save_checkpoint
from efficientconv.engine.continuation import refuse_other_images, refuse_other_processes
from efficientconv.engine.epoch_log import EpochLog
from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.training import Training
from efficientconv.errors import UserError
from efficientconv.files import is_at, make_folder, refused_in_one_line, remove_leftovers
from efficientconv.info import environment
from efficientconv.weights import write_weights


class RunStore:
    """Keeps `training` in `folder`. All processes call the same methods, and only the main process writes."""

    def __init__(self, folder: RunFolder, training: Training):
        self.folder, self.training, self.trainer = folder, training, training.trainer
        self.log = EpochLog(folder.metrics_file)
        self.lock: int | None = None  # held by the main process from `take` on
        self.saved_step = 0
        self.seconds = 60 * training.config.trainer.checkpoint_minutes  # between checkpoints inside an epoch
        self.next_time = time.monotonic() + self.seconds

    def take(self) -> None:
        """Locks the folder for this run and writes its small files. Raises UserError before anything is changed."""
        self._claim()
        self.training.data.damage.listen(partial(_note_damage, self.folder))

    def _claim(self) -> None:
        folder, training, config = self.folder, self.training, self.training.config
        self.lock = folder.hold(config)
        refuse_other_images(folder, config, training.fingerprint)
        refuse_other_processes(folder, training.world.size)
        folder.read_json(folder.damaged_file.name)  # raises UserError now, not at the first damaged image
        self.check_space()
        folder.write_config(config)
        with refused_in_one_line(f"write into {folder.path}", "put out of the way what lies there, or make space"):
            make_folder(folder.checkpoints)
            folder.write_json("environment.json", environment(training.device))
            folder.write_json("facts.json", training.facts)
            folder.write_json(folder.classes_file.name, training.data.classes)

    def due(self) -> bool:
        return time.monotonic() >= self.next_time

    def save(self) -> None:
        """Saves a checkpoint. If that fails, warns and goes on: the last checkpoint stays, and the next save tries again."""
        self.next_time = time.monotonic() + self.seconds
        with self.training.preemption.shield():
            state = self.trainer.state_dict()  # all processes together
            state["records"] = self.log.text(self.trainer.epoch)
            if self.training.world.is_main:
                self._take_again_if_removed()
                try:
                    save_checkpoint(self.folder.checkpoints, state)
                except OSError as error:
                    place = f"{self.folder.checkpoints} ({error.strerror})"
                    warnings.warn(f"step {state['step']} could not be saved in {place}; training goes on", stacklevel=2)
                    return
            self.saved_step = state["step"]

    def save_if_newer(self) -> None:
        if self.trainer.step > self.saved_step:
            self.save()

    def load(self) -> Path | None:
        """Loads the newest sound checkpoint into trainer and log. Returns its path, or None if there is no checkpoint."""
        with self.training.preemption.shield():
            if self.training.world.is_main:
                remove_leftovers(self.folder.checkpoints)
            found = load_newest(self.folder.checkpoints, self.trainer.fault_in)
            if found is None:
                return None
            path, state = found
            self.trainer.load_state_dict(state)
            self.log.continue_after(self.trainer.epoch, state.get("records"))
            self.saved_step = self.trainer.step
            return path

    def check_space(self) -> None:
        """Raises UserError if the disk has no room for the checkpoints that a run keeps and one more."""
        values = sum(p.numel() for p in self.trainer.model.parameters())
        copies = 2 if self.trainer.ema is None else 3  # weights, momentum, moving average
        needed = values * 4 * copies * (KEPT + 1)
        free = shutil.disk_usage(self.folder.path).free
        if free < needed:
            raise UserError(
                f"{self.folder.path} has {free / 1e6:.1f} MB free, and checkpoints need {needed / 1e6:.1f} MB; "
                "free some, or choose another output_root"
            )

    def write_results(self, summary: dict) -> None:
        """Writes model.safetensors and summary.json. Raises UserError if these, or the last state, cannot be written."""
        if self.saved_step < self.trainer.step or not self.log.write():
            raise UserError(
                f"training is done, but its last state could not be saved in {self.folder.path} (a warning above says "
                f"why); mend that, and the same command continues after step {self.saved_step}"
            )
        self._take_again_if_removed()
        tensors, training = self.trainer.model.state_dict(), self.training
        try:
            config, classes = training.config.model_dump(), training.data.classes
            write_weights(self.folder.weights_file, tensors, config, classes, training.image_size)
            self.folder.write_json("summary.json", summary)
        except OSError as error:
            raise UserError(
                f"training is done, but the results could not be written to {self.folder.path} ({error.strerror}); mend "
                "that, and the same command writes them"
            ) from None

    def _take_again_if_removed(self) -> None:
        """Raises UserError if another process trains in the folder since somebody removed it."""
        if self.lock is None or is_at(self.lock, self.folder.lock_file):
            return
        warnings.warn(f"{self.folder.path} was removed during the training, and is made anew", stacklevel=2)
        self._claim()


def _note_damage(folder: RunFolder, image: str, reason: str) -> None:
    warnings.warn(f"the training image '{image}' is damaged ({reason}); another takes its place", stacklevel=2)
    try:
        folder.add_damaged(image, reason)
    except OSError as error:  # a full disk does not end a run, and the warning has named the image
        warnings.warn(f"could not note it in {folder.damaged_file} ({error.strerror})", stacklevel=2)
