"""The loader that fits a split: the one place that knows there are two kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from efficientconv.config import DataConfig
from efficientconv.data.dataset import FileSplit, MemorySplit, Split
from efficientconv.data.file_loader import FileEvalLoader, FileTrainLoader, ImageFiles
from efficientconv.data.memory_loader import MemoryEvalLoader, MemoryTrainLoader
from efficientconv.data.normalise import Normalise
from efficientconv.data.sampling import Shard, TrainPlan
from efficientconv.errors import UserError


class TrainLoader(Protocol):
    batch_size: int  # images of one micro-batch of this process
    batches_per_epoch: int  # micro-batches of this process

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, labels) of the micro-batches from number `start` on; those before it are not even decoded.

        images: float32 B x 3 x S x S, normalised; labels: int64 B; both on the device.
        """


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
    shard: Shard = Shard(),
) -> TrainLoader:
    """Shuffled and augmented, the same for every number of workers and from every restart (sampling.py).

    Raises UserError for a batch that is larger than the split or that cannot be cut evenly, and for a wrong size.
    """
    _check_batch(global_batch_size, accumulation_steps, shard, len(split), config)
    plan = TrainPlan(len(split), global_batch_size, accumulation_steps, seed, shard)
    normalise = Normalise(config.mean, config.std, device, channels_last)
    if isinstance(split, FileSplit):
        return FileTrainLoader(_image_files(split, config, image_size), plan, config.workers, normalise)
    _check_memory(split, config, image_size)
    return MemoryTrainLoader(split, plan, config.crop_padding, config.flip, normalise)


def eval_loader(
    split: Split,
    config: DataConfig,
    *,
    image_size: int,
    batch_size: int,
    device: torch.device,
    channels_last: bool,
    shard: Shard = Shard(),
) -> EvalLoader:
    """Every image of the shard once, without augmentation, in a fixed order. Raises UserError for a wrong size."""
    normalise = Normalise(config.mean, config.std, device, channels_last)
    if isinstance(split, FileSplit):
        files = _image_files(split, config, image_size)
        return FileEvalLoader(files, batch_size, shard, config.workers, normalise)
    _check_memory(split, config, image_size)
    return MemoryEvalLoader(split, batch_size, shard, normalise)


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
    held = split.images.shape[-1]
    if held != image_size:
        raise UserError(
            f"data={config.name} has images of {held} pixels a side, the network takes {image_size}: "
            f"set data.image_size={image_size}"
        )


def _image_files(split: FileSplit, config: DataConfig, image_size: int) -> ImageFiles:
    if config.resize_size is not None and config.resize_size < image_size:
        raise UserError(
            f"data.resize_size={config.resize_size} is too small for crops of {image_size}: "
            f"set data.resize_size={image_size} or more"
        )
    return ImageFiles(split, image_size, config.resize_size, config.crop_padding, config.flip)
