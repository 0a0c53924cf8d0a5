"""Batches of images that are read from disk: workers decode and resize, the device crops, flips, normalises and mixes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from efficientconv.data.augment import crop_and_flip, crop_centre
from efficientconv.data.damage import DamagedImage, DamageLog
from efficientconv.data.decoding import Decoding
from efficientconv.data.frames import TrainFrames, WholeFrames
from efficientconv.data.mixing import Mixing
from efficientconv.data.normalise import Normalise
from efficientconv.data.sampling import Shard, TrainPlan, eval_indices
from efficientconv.data.workshop import Made, Task

Batch = tuple[Tensor, Tensor]


class FileTrainLoader:
    """Random crops and flips, and what else the configuration says. See loaders.train_loader."""

    def __init__(
        self, frames: TrainFrames, plan: TrainPlan, workers: int | None, flip: bool, normalise: Normalise,
        mixing: Mixing | None, damage: DamageLog,
    ):  # fmt: skip
        self.batch_size, self.batches_per_epoch = plan.batch_size, plan.batches_per_epoch
        self._frames, self._plan, self._flip, self._normalise = frames, plan, flip, normalise
        self._mixing, self._damage = mixing, damage
        self._decoding = Decoding(frames, plan.batch_size, plan.batches_per_epoch, workers, normalise.device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        draws = self._mixing and self._mixing.draws(self._plan.seed, epoch, self._plan.num_images)
        tasks = ((indices.numpy(), numbers.numpy(), epoch) for indices, numbers in self._plan.batches(epoch, start))
        for made, frames in self._decoding.run(tasks):
            for name, reason in made.damaged.items():
                self._damage.add(name, reason)
            images, labels = self._augmented(made.task, frames), self._to_device(made.labels)
            yield (images, labels) if draws is None else self._mixing(images, labels, draws, made.task.indices)

    def _augmented(self, task: Task, frames: Tensor) -> Tensor:
        padding, size = self._frames.padding_of_device, self._frames.image_size
        return self._normalise(crop_and_flip(frames, self._to_device(task.numbers), size, padding, self._flip))

    def _to_device(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._normalise.device, non_blocking=True)

    def __str__(self) -> str:
        return str(self._decoding)


class FileEvalLoader:
    """Every image of the shard, cropped at its centre, in a fixed order. See loaders.eval_loader."""

    def __init__(self, frames: WholeFrames, batch_size: int, shard: Shard, workers: int | None, normalise: Normalise):
        self._indices = eval_indices(len(frames.images.labels), shard).numpy()
        self.batch_size, self.num_images = batch_size, len(self._indices)
        self._frames, self._normalise = frames, normalise
        slot = max(1, min(batch_size, self.num_images))
        self._decoding = Decoding(frames, slot, len(self), workers, normalise.device)

    def __len__(self) -> int:
        return -(-self.num_images // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for made, images in self.batches():
            for name, reason in made.damaged.items():
                raise DamagedImage(name, reason)
            yield images, torch.from_numpy(made.labels).to(self._normalise.device, non_blocking=True)

    def batches(self) -> Iterator[tuple[Made, Tensor]]:
        """(what became of a batch, its images as in TrainLoader): damaged ones are black and named."""
        firsts = range(0, self.num_images, self.batch_size)  # none, where there are more processes than images
        chunks = [self._indices[first : first + self.batch_size] for first in firsts]
        for made, frames in self._decoding.run(zip(chunks)):
            yield made, self._normalise(crop_centre(frames, self._frames.image_size))
