"""Chooses the images of each batch and the random numbers of each image: pure functions of (seed, epoch).

The order of the images and an image's random numbers do not depend on the number of workers, the batch size, the number of
processes or a restart in the middle of an epoch. No global random state is read or changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ORDER, AUGMENTATION, REPLACEMENT, SHAPE, MIXING = range(5)  # keep the streams apart
STAND_INS = 100  # images that are tried in the place of a damaged one


@dataclass(frozen=True)
class Shard:
    """The part of one process among `size` that train together."""

    rank: int = 0
    size: int = 1


ALONE = Shard()


class Task(NamedTuple):
    """The images of a batch, and the random numbers of their augmentation."""

    indices: np.ndarray  # int64 B
    numbers: np.ndarray | None = None  # B x 3, as of augmentation_numbers; None: the batch is for an evaluation
    epoch: int = 0


def epoch_order(seed: int, epoch: int, num_images: int) -> np.ndarray:
    """A permutation of the image indices, int64."""
    return np.random.default_rng((ORDER, seed, epoch)).permutation(num_images)


def augmentation_numbers(seed: int, epoch: int, num_images: int) -> np.ndarray:
    """num_images x 3 numbers, uniform in [0, 1), by image index: crop row, crop column, flip.

    The rows are drawn in order, so an image's numbers do not depend on the number of images after it.
    """
    return np.random.default_rng((AUGMENTATION, seed, epoch)).random((num_images, 3))


def image_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """A generator for augmentations that draw a varying number of random numbers: resized crops, RandAugment."""
    return np.random.default_rng((SHAPE, seed, epoch, index))


def mixing_generator(seed: int, epoch: int) -> np.random.Generator:
    """Draws for all images of an epoch at once, by image index."""
    return np.random.default_rng((MIXING, seed, epoch))


def candidates(index: int, num_images: int) -> Iterator[int]:
    """Training image `index`, then the images that replace it, one after the other, if the ones before are damaged.

    This depends only on the index: no worker, process or restart needs to know which images others found damaged.
    """
    yield index
    yield from np.random.default_rng((REPLACEMENT, index)).integers(num_images, size=STAND_INS).tolist()


@dataclass(frozen=True)
class TrainPlan:
    """Optimizer step s takes the images order[s*G : (s+1)*G], where G = global_batch_size.

    These images are divided into micro-batches, and each micro-batch into ranks. Images that are left over at the end of an
    epoch are dropped; the next epoch has another order.
    """

    num_images: int
    global_batch_size: int
    accumulation_steps: int
    seed: int
    shard: Shard

    @property
    def batch_size(self) -> int:
        """Images of one micro-batch of one process."""
        return self.global_batch_size // (self.accumulation_steps * self.shard.size)

    @property
    def batches_per_epoch(self) -> int:
        """Micro-batches of one process."""
        return self.num_images // self.global_batch_size * self.accumulation_steps

    def tasks(self, epoch: int, start: int = 0) -> Iterator[Task]:
        """This process's micro-batches from number `start` on."""
        order = epoch_order(self.seed, epoch, self.num_images)
        numbers = augmentation_numbers(self.seed, epoch, self.num_images)
        for batch in range(start, self.batches_per_epoch):
            first = (batch * self.shard.size + self.shard.rank) * self.batch_size
            indices = order[first : first + self.batch_size]
            yield Task(indices, numbers[indices], epoch)


@dataclass(frozen=True)
class EvalPlan:
    """Every size-th image from `rank` on, in order. Nothing is padded, so each image is in exactly one shard.

    A shard is empty if there are more processes than images.
    """

    num_images: int  # of all shards
    batch_size: int
    shard: Shard

    def tasks(self) -> Iterator[Task]:
        """This process's batches; the last one may be smaller."""
        indices = np.arange(self.shard.rank, self.num_images, self.shard.size)
        for first in range(0, len(indices), self.batch_size):
            yield Task(indices[first : first + self.batch_size])
