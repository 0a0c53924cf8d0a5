"""What a worker does: batches of frames, decoded into the ring."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from efficientconv.data.damage import DamagedImage, no_stand_in
from efficientconv.data.frames import Frames
from efficientconv.data.ring import Ring
from efficientconv.data.sampling import candidates
from efficientconv.errors import UserError

Damaged = dict[str, str]  # why images could not be read, by name


class Task(NamedTuple):
    """A batch for a worker to make."""

    slot: int  # of the ring, where its frames go
    indices: np.ndarray  # int64 B
    numbers: np.ndarray | None = None  # B x 3 of augmentation; None: to evaluate
    epoch: int = 0


class Made(NamedTuple):
    """A worker's answer. Arrays, not tensors: those would go through shared memory of their own."""

    task: Task
    labels: np.ndarray  # int64 B
    damaged: Damaged


class Workshop(Dataset):
    """Task -> Made, and the frames in the ring: a pure function, so it does not matter which worker does it.

    A UserError is the answer itself: raised in a worker it would arrive with that worker's traceback as its message, and
    with references that keep the other workers alive.
    """

    def __init__(self, frames: Frames, ring: Ring):
        self.frames, self.ring = frames, ring
        self.labels = frames.images.labels.numpy()

    def __getitem__(self, task: Task) -> Made | UserError:
        target = self.ring.frames[task.slot].numpy()
        try:
            labels, damaged = self._to_evaluate(task, target) if task.numbers is None else self._to_train(task, target)
        except UserError as error:
            return error
        return Made(task, labels, damaged)

    def _to_evaluate(self, task: Task, target: np.ndarray) -> tuple[np.ndarray, Damaged]:
        """A damaged image is black; the loader says what becomes of it."""
        damaged = {}
        for place, index in enumerate(task.indices.tolist()):
            try:
                target[place] = self.frames.frame(index)
            except DamagedImage as error:
                target[place], damaged[error.path] = 0, error.reason
        return self.labels[task.indices], damaged

    def _to_train(self, task: Task, target: np.ndarray) -> tuple[np.ndarray, Damaged]:
        """Another image stands in for one that is damaged, with its own label and the other's augmentation."""
        sound, damaged = task.indices.copy(), {}
        for place, index in enumerate(task.indices.tolist()):
            pixels, sound[place] = self._first_sound(index, damaged)
            target[place] = self.frames.frame(pixels, index, task.numbers[place], task.epoch)
        return self.labels[sound], damaged

    def _first_sound(self, index: int, damaged: Damaged) -> tuple[np.ndarray, int]:
        """Image `index` or what stands in for it, and that one's index; fills in those that proved `damaged`."""
        for candidate in candidates(index, len(self.labels)):
            try:
                return self.frames.pixels(candidate), candidate
            except DamagedImage as error:
                damaged[error.path] = error.reason
        raise no_stand_in(*next(iter(damaged.items())))
