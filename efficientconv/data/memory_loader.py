"""Batches of a set whose images all lie on the device: augmented a batch at a time, so no worker processes."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from efficientconv.data.augment import crop_and_flip
from efficientconv.data.dataset import MemorySplit
from efficientconv.data.mixing import Mixing
from efficientconv.data.normalise import Normalise
from efficientconv.data.sampling import Shard, TrainPlan, eval_indices

Batch = tuple[Tensor, Tensor]


class MemoryTrainLoader:
    """Random crops of the zero-padded image, then random flips, then mixing. See loaders.train_loader."""

    def __init__(
        self, split: MemorySplit, plan: TrainPlan, crop_padding: int, flip: bool, normalise: Normalise, mixing: Mixing | None
    ):
        self.images = split.images.to(normalise.device)
        self.labels = split.labels.to(normalise.device)
        self.plan, self.crop_padding, self.flip, self.normalise, self.mixing = plan, crop_padding, flip, normalise, mixing
        self.batch_size, self.batches_per_epoch = plan.batch_size, plan.batches_per_epoch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        device, size = self.normalise.device, self.images.shape[-1]
        draws = self.mixing and self.mixing.draws(self.plan.seed, epoch, self.plan.num_images)
        for chosen, numbers in self.plan.batches(epoch, start):
            indices, numbers = chosen.to(device, non_blocking=True), numbers.to(device, non_blocking=True)
            images = self.normalise(crop_and_flip(self.images[indices], numbers, size, self.crop_padding, self.flip))
            labels = self.labels[indices]
            yield (images, labels) if draws is None else self.mixing(images, labels, draws, chosen.numpy())

    def __str__(self) -> str:
        return f"held in memory ({self.images.device.type}, {self.images.nbytes / 1e6:.0f} MB)"


class MemoryEvalLoader:
    """Every image of the shard as it is, in a fixed order. See loaders.eval_loader."""

    def __init__(self, split: MemorySplit, batch_size: int, shard: Shard, normalise: Normalise):
        indices = eval_indices(len(split), shard)
        self.images = split.images[indices].to(normalise.device)
        self.labels = split.labels[indices].to(normalise.device)
        self.batch_size, self.num_images, self.normalise = batch_size, len(indices), normalise

    def __len__(self) -> int:
        return -(-self.num_images // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, self.num_images, self.batch_size):
            part = slice(first, first + self.batch_size)
            yield self.normalise(self.images[part]), self.labels[part]
