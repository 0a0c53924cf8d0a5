"""The loader that fits a split: the one place that knows there are two kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from efficientconv.config import DataConfig
from efficientconv.data.damage import DamageLog
from efficientconv.data.dataset import MemorySplit, Split
from efficientconv.data.file_loader import FileEvalLoader, FileTrainLoader
from efficientconv.data.frames import EvalFrames, TrainFrames
from efficientconv.data.images import images_of
from efficientconv.data.memory_loader import MemoryEvalLoader, MemoryTrainLoader
from efficientconv.data.mixing import Mixing
from efficientconv.data.normalise import Normalise
from efficientconv.data.resize import Resize
from efficientconv.data.sampling import ALONE, Shard, TrainPlan
from efficientconv.errors import UserError


class TrainLoader(Protocol):
    batch_size: int  # images of one micro-batch of this process
    batches_per_epoch: int  # micro-batches of this process

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, labels) of the micro-batches from number `start` on; those before it are not even decoded.

        images: float32 B x 3 x S x S, normalised; labels: int64 B, or with mixup or cutmix the classes' shares, float32
        B x classes; both on the device.
        """

    def __str__(self) -> str:
        """Where the images come from and by what means, for people."""


class EvalLoader(Protocol):
    batch_size: int
    num_images: int  # of this shard; all shards together have each image once

    def __len__(self) -> int:
        """Batches; the last may be smaller than the others."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, labels) as in TrainLoader."""


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
    """Shuffled and augmented, the same for every number of workers and from every restart (sampling.py).

    Damaged files are replaced and recorded in `damage`, the data set's own; UserError when they become too many.
    `num_classes` is needed for mixup and cutmix only.
    Raises UserError for a batch that is larger than the split or that cannot be cut evenly, and for a wrong size.
    """
    _check_batch(global_batch_size, accumulation_steps, shard, len(split), config)
    plan = TrainPlan(len(split), global_batch_size, accumulation_steps, seed, shard)
    normalise, mixing = Normalise(config.mean, config.std, device, channels_last), _mixing(config, plan, num_classes)
    if isinstance(split, MemorySplit):
        _check_memory(split, config, image_size)
        return MemoryTrainLoader(split, plan, config.crop_padding, config.flip, normalise, mixing)
    resize = _resize(config, image_size)
    frames = TrainFrames(images_of(split, resize), resize, image_size, config, seed)
    damage = damage or DamageLog(len(split), config.max_damaged_fraction)
    return FileTrainLoader(frames, plan, config.workers, config.flip, normalise, mixing, damage)


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
    """Every image of the shard once, without augmentation, in a fixed order. Raises UserError for a wrong size."""
    normalise = Normalise(config.mean, config.std, device, channels_last)
    if isinstance(split, MemorySplit):
        _check_memory(split, config, image_size)
        return MemoryEvalLoader(split, batch_size, shard, normalise)
    resize = _resize(config, image_size)
    frames = EvalFrames(images_of(split, resize), resize, image_size)
    return FileEvalLoader(frames, batch_size, shard, config.workers, normalise)


def _check_batch(global_batch_size: int, accumulation: int, shard: Shard, images: int, config: DataConfig) -> None:
    if global_batch_size > images:
        raise UserError(
            f"trainer.global_batch_size={global_batch_size} is more than the {images} training images of "
            f"data={config.name}: set trainer.global_batch_size={images} or less"
        )
    if global_batch_size % (accumulation * shard.world_size):
        raise UserError(
            f"trainer.global_batch_size={global_batch_size} is not divisible by trainer.accumulation_steps="
            f"{accumulation} times {shard.world_size} processes: take a multiple of {accumulation * shard.world_size}"
        )


def _check_memory(split: MemorySplit, config: DataConfig, image_size: int) -> None:
    if config.resize_size is not None:
        raise UserError(f"data={config.name} is held in memory, without data.resize_size: set data.image_size instead")
    if config.min_crop_area is not None or config.randaugment_ops:
        raise UserError(
            f"data={config.name} is held in memory, where there are neither random resized crops nor RandAugment: "
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
    if plan.batch_size % 2:
        raise UserError(
            f"mixup and cutmix mix pairs, and a process has {plan.batch_size} images at a time: "
            "set trainer.global_batch_size so that it is an even number"
        )
    return Mixing(config.mixup_alpha, config.cutmix_alpha, num_classes)
