"""Batches of a set whose images all lie on the device: augmented a batch at a time, so no worker processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from efficientconv.data.dataset import MemorySplit
from efficientconv.data.normalise import Normalise
from efficientconv.data.sampling import Shard, TrainPlan, eval_indices

Batch = tuple[Tensor, Tensor]


class MemoryTrainLoader:
    """Random crops of the zero-padded image, then random flips. See loaders.train_loader."""

    def __init__(self, split: MemorySplit, plan: TrainPlan, crop_padding: int, flip: bool, normalise: Normalise):
        self.images = split.images.to(normalise.device)
        self.labels = split.labels.to(normalise.device)
        self.plan, self.crop_padding, self.flip, self.normalise = plan, crop_padding, flip, normalise
        self.batch_size, self.batches_per_epoch = plan.batch_size, plan.batches_per_epoch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        device = self.normalise.device
        for indices, numbers in self.plan.batches(epoch, start):
            indices, numbers = indices.to(device, non_blocking=True), numbers.to(device, non_blocking=True)
            images = augment(self.images[indices], numbers, self.crop_padding, self.flip)
            yield self.normalise(images), self.labels[indices]


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


def augment(images: Tensor, numbers: Tensor, crop_padding: int, flip: bool) -> Tensor:
    """uint8 B x 3 x S x S -> the same shape; `numbers` B x 3 in [0, 1) choose crop row, crop column and flip."""
    if crop_padding:
        size = images.shape[-1]
        rows, columns = (numbers[:, :2] * (2 * crop_padding + 1)).long().unbind(1)
        # Views of all windows of all images; indexing copies the one of each that was drawn.
        windows = pad(images, (crop_padding,) * 4).unfold(2, size, 1).unfold(3, size, 1)
        images = windows[torch.arange(len(images), device=images.device), :, rows, columns]
    if flip:
        images = torch.where((numbers[:, 2] < 0.5).view(-1, 1, 1, 1), images.flip(3), images)
    return images
