"""Makes batches for training and evaluation: images come from memory or workers, and the device augments whole batches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from efficientconv.config import DataConfig
from efficientconv.data.augment import Mixing, Normalise, crop_and_flip, crop_centre
from efficientconv.data.damage import DamagedImage, DamageLog
from efficientconv.data.dataset import MemorySplit, Split
from efficientconv.data.resize import Resize
from efficientconv.data.sampling import ALONE, EvalPlan, Shard, Task, TrainPlan
from efficientconv.data.transforms import EvalTransform, TrainTransform
from efficientconv.data.workers import DecodedImages, Frames
from efficientconv.errors import UserError

Batch = tuple[Tensor, Tensor]


class ImageSource(Protocol):
    """Where the images come from: MemoryImages or workers.DecodedImages."""

    def read(self, tasks: Iterator[Task]) -> Iterator[Frames]:
        """The frames of each task, in order, on the device (their copy may still be under way)."""


class MemoryImages:
    """Small images, all of them in the device's memory."""

    def __init__(self, split: MemorySplit, device: torch.device):
        self.images, self.labels = split.images.to(device), split.labels.to(device)

    def read(self, tasks: Iterator[Task]) -> Iterator[Frames]:
        for task in tasks:
            indices = torch.from_numpy(task.indices).to(self.images.device, non_blocking=True)
            yield Frames(task, self.images[indices], self.labels[indices], {})

    def __str__(self) -> str:
        return f"held in memory ({self.images.device.type}, {self.images.nbytes / 1e6:.0f} MB)"


class TrainLoader:
    """Shuffled and augmented batches of this process.

    `padding`: pixels added on each side on the device, before the crop. str() describes the source of the images.
    """

    def __init__(
        self, source: ImageSource, plan: TrainPlan, image_size: int, padding: int, flip: bool, normalise: Normalise,
        mixing: Mixing | None, damage: DamageLog,
    ):  # fmt: skip
        self.batches_per_epoch = plan.batches_per_epoch
        self._source, self._plan, self._image_size, self._padding, self._flip = source, plan, image_size, padding, flip
        self._normalise, self._mixing, self._damage = normalise, mixing, damage

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """(images, labels) of the micro-batches from number `start` on. Earlier ones are not decoded.

        images: float32 B x 3 x S x S, normalised. labels: int64 B, or with mixup or cutmix the shares of the classes,
        float32 B x classes. Both are on the device.
        """
        mixed = None
        if self._mixing is not None:
            mixed = partial(self._mixing, draws=self._mixing.draws(self._plan.seed, epoch, self._plan.num_images))
        for task, frames, labels, damaged in self._source.read(self._plan.tasks(epoch, start)):
            for name, reason in damaged.items():
                self._damage.add(name, reason)
            numbers = torch.from_numpy(task.numbers).to(self._normalise.device, non_blocking=True)
            images = self._normalise(crop_and_flip(frames, numbers, self._image_size, self._padding, self._flip))
            yield (images, labels) if mixed is None else mixed(images, labels, indices=task.indices)

    def __str__(self) -> str:
        return str(self._source)


class EvalLoader:
    """Every image of the shard, cropped at its centre, in a fixed order. The shards together have each image once."""

    def __init__(self, source: ImageSource, plan: EvalPlan, image_size: int, normalise: Normalise):
        self.num_images = plan.num_images  # of all shards
        self._source, self._plan, self._image_size, self._normalise = source, plan, image_size, normalise

    def __iter__(self) -> Iterator[Batch]:
        """(images, labels) as in TrainLoader. Raises DamagedImage."""
        for frames, images in self.batches():
            for name, reason in frames.damaged.items():
                raise DamagedImage(name, reason)
            yield images, frames.labels

    def batches(self) -> Iterator[tuple[Frames, Tensor]]:
        """(frames, normalised images) of each batch. A damaged image is black, and the frames name it."""
        for frames in self._source.read(self._plan.tasks()):
            yield frames, self._normalise(crop_centre(frames.images, self._image_size))


def train_loader(
    split: Split,
    config: DataConfig,
    *,
    image_size: int,
    global_batch_size: int,
    accumulation_steps: int,
    seed: int,
    device: torch.device,
    channels_last: bool,
    shard: Shard = ALONE,
    damage: DamageLog | None = None,
    num_classes: int | None = None,
) -> TrainLoader:
    """A loader of shuffled and augmented batches, which do not depend on the number of workers or on restarts (sampling.py).

    Damaged files are replaced and added to `damage`. `num_classes` is needed only for mixup and cutmix. Raises UserError if
    too many files are damaged, if the batch is larger than the split or cannot be divided evenly, and for a wrong image
    size.
    """
    _check_batch(global_batch_size, accumulation_steps, shard, len(split), config)
    plan = TrainPlan(len(split), global_batch_size, accumulation_steps, seed, shard)
    normalise, mixing = Normalise(config.mean, config.std, device, channels_last), _mixing(config, plan, num_classes)
    source: ImageSource
    if isinstance(split, MemorySplit):
        _check_memory(split, config, image_size)
        source, padding = MemoryImages(split, device), config.crop_padding
    else:
        transform = TrainTransform(split, _resize(config, image_size), image_size, config, seed)
        source = DecodedImages(transform, plan.batch_size, plan.batches_per_epoch, config.workers, device)
        padding = transform.padding_of_device
    damage = damage or DamageLog(len(split), config.max_damaged_fraction)
    return TrainLoader(source, plan, image_size, padding, config.flip, normalise, mixing, damage)


def eval_loader(
    split: Split,
    config: DataConfig,
    *,
    image_size: int,
    batch_size: int,
    device: torch.device,
    channels_last: bool,
    shard: Shard = ALONE,
) -> EvalLoader:
    """A loader of every image of the shard once, without augmentation. Raises UserError for a wrong image size."""
    normalise = Normalise(config.mean, config.std, device, channels_last)
    if isinstance(split, MemorySplit):
        _check_memory(split, config, image_size)
        return EvalLoader(MemoryImages(split, device), EvalPlan(len(split), batch_size, shard), image_size, normalise)
    transform = EvalTransform(split, _resize(config, image_size), image_size)
    return file_eval_loader(transform, batch_size, shard, config.workers, normalise)


def file_eval_loader(
    transform: EvalTransform, batch_size: int, shard: Shard, workers: int | None, normalise: Normalise
) -> EvalLoader:
    """As eval_loader, for images in files."""
    plan = EvalPlan(len(transform.images), batch_size, shard)
    sizes = [len(task.indices) for task in plan.tasks()]
    source = DecodedImages(transform, max(sizes, default=1), len(sizes), workers, normalise.device)
    return EvalLoader(source, plan, transform.image_size, normalise)


def _check_batch(global_batch_size: int, accumulation: int, shard: Shard, images: int, config: DataConfig) -> None:
    if global_batch_size > images:
        raise UserError(
            f"trainer.global_batch_size={global_batch_size} is more than the {images} training images of "
            f"data={config.name}: set trainer.global_batch_size={images} or less"
        )
    if global_batch_size % (accumulation * shard.size):
        raise UserError(
            f"trainer.global_batch_size={global_batch_size} is not divisible by trainer.accumulation_steps="
            f"{accumulation} times {shard.size} processes: take a multiple of {accumulation * shard.size}"
        )


def _check_memory(split: MemorySplit, config: DataConfig, image_size: int) -> None:
    if config.resize_size is not None:
        raise UserError(f"data={config.name} is held in memory: set data.image_size instead of data.resize_size")
    if config.min_crop_area is not None or config.randaugment_ops:
        raise UserError(
            f"data={config.name} is held in memory, which does not go with random resized crops and RandAugment: "
            "leave out data.min_crop_area and data.randaugment_ops"
        )
    held = split.images.shape[-1]
    if held != image_size:
        raise UserError(
            f"data={config.name} has images of {held} pixels a side, the network takes {image_size}: "
            f"set data.image_size={image_size}"
        )


def _resize(config: DataConfig, image_size: int) -> Resize:
    if config.resize_size is not None and config.resize_size < image_size:
        raise UserError(
            f"data.resize_size={config.resize_size} is too small for crops of {image_size}: "
            f"set data.resize_size={image_size} or more"
        )
    return Resize(config.resize_size, config.resize_rule)


def _mixing(config: DataConfig, plan: TrainPlan, num_classes: int | None) -> Mixing | None:
    if not (config.mixup_alpha or config.cutmix_alpha):
        return None
    if num_classes is None:
        raise ValueError("mixup and cutmix need num_classes")
    if plan.batch_size % 2:
        raise UserError(
            f"mixup and cutmix mix pairs, and a process has {plan.batch_size} images at a time: "
            "set trainer.global_batch_size so that it is an even number"
        )
    return Mixing(config.mixup_alpha, config.cutmix_alpha, num_classes)
