"""Generated images, a coarse pattern for each class plus noise: for tests, and for measurements without data."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientconv.config import DataConfig
from efficientconv.data.dataset import DATA_SETS, DataSet, MemorySplit
from efficientconv.errors import UserError

PATTERN_SIZE = 4  # pixels a side before it is enlarged to the image


@DATA_SETS.register(
    "synthetic",
    num_classes=10,
    num_images=1024,  # to train on; a quarter as many again are the test set
    image_size=32,  # pixels a side
    crop_padding=4,  # pixels
    flip=True,
    mean=[0.5, 0.5, 0.5],
    std=[0.25, 0.25, 0.25],
    val_fraction=0.1,
)
def synthetic(config: DataConfig) -> DataSet:
    """data.num_images training images and a quarter as many test images. They are the same in all runs."""
    num_classes, num_images, size = (_given(config, key) for key in ("num_classes", "num_images", "image_size"))
    generator = torch.Generator().manual_seed(0)
    shape = (num_classes, 3, PATTERN_SIZE, PATTERN_SIZE)
    coarse = torch.randint(0, 128, shape, generator=generator, dtype=torch.uint8)
    patterns = MemorySplit(coarse, torch.arange(num_classes)).resized(size).images
    train = _noisy(patterns, num_images, generator)
    test = _noisy(patterns, max(1, num_images // 4), generator)
    classes = [f"{label:0{len(str(num_classes - 1))}d}" for label in range(num_classes)]
    return DataSet("synthetic", classes, size, train, None, test)


def _given(config: DataConfig, key: str) -> int:
    value = getattr(config, key)
    if value is None:
        raise UserError(f"data=synthetic makes its own images, and needs data.{key}: set it")
    return value


def _noisy(patterns: Tensor, num_images: int, generator: torch.Generator) -> MemorySplit:
    """Images that are pattern plus noise. Each is in 0..127, so that the sum fits a byte."""
    labels = torch.arange(num_images) % len(patterns)
    noise = torch.randint(0, 128, (num_images, *patterns.shape[1:]), generator=generator, dtype=torch.uint8)
    return MemorySplit(noise.add_(patterns[labels]), labels)
