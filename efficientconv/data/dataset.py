"""What a data set is: its classes and three splits, whose images lie in memory or in files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from efficientconv.config import DataConfig
from efficientconv.data.damage import DamagedImage, DamageLog
from efficientconv.data.decode import rgb_pixels
from efficientconv.data.image_files import PassedOver, content_of, require_searchable
from efficientconv.data.prepared import PreparedSplit
from efficientconv.errors import UserError
from efficientconv.registry import Registry, T

HOLD_OUT_SEED = 1608_04337  # not the run's seed: all runs are compared on the same held-out images
ORIGINAL = "original"
RESIZE_CHUNK = 1024  # images; torch resizes uint8 by way of float, which is four times as large


def _resized(images: Tensor, size: int) -> Tensor:
    """As torchvision's resize does it, to the bit."""
    return interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True).round_().to(torch.uint8)


@dataclass(frozen=True)
class MemorySplit:
    """Small images, all held: `images` uint8 N x 3 x S x S, `labels` int64 N."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> MemorySplit:
        return MemorySplit(self.images[indices], self.labels[indices])

    def resized(self, size: int) -> MemorySplit:
        """Both sides of every image to `size` pixels, bilinear and antialiased; itself when nothing is to be done."""
        if self.images.shape[-1] == size:
            return self
        return MemorySplit(torch.cat([_resized(chunk, size) for chunk in self.images.split(RESIZE_CHUNK)]), self.labels)


class FileSplit:
    """Images to be decoded when they are needed: a file each, `labels` int64 N."""

    def __init__(self, paths: Sequence[str] | np.ndarray, labels: Tensor):
        # An array of bytes: a list's reference counts would be written to, and so copied, in every worker.
        self.files = paths if isinstance(paths, np.ndarray) else np.array([os.fsencode(path) for path in paths], bytes)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def paths(self) -> list[str]:
        return list(map(os.fsdecode, self.files))

    def subset(self, indices: Tensor) -> FileSplit:
        return FileSplit(self.files[indices.numpy()], self.labels[indices])

    def name(self, index: int) -> str:
        """For messages."""
        return os.fsdecode(self.files[index])

    def pixels(self, index: int) -> np.ndarray:
        """uint8 H x W x 3, as large as it is stored. Raises DamagedImage."""
        path = self.name(index)
        try:
            content = content_of(path)
        except OSError as error:
            raise DamagedImage(path, error.strerror) from None
        return rgb_pixels(content, path)


Split = MemorySplit | FileSplit | PreparedSplit


@dataclass(frozen=True)
class DataSet:
    """`val` is held out of the training images and watched in training; `test` is the official set, for the end."""

    name: str
    classes: list[str]  # by label
    image_size: int | None  # pixels a side fed to the network; None: the network's own
    train: Split
    val: Split | None
    test: Split
    decode_at_load: bool = False  # the files are small enough to be held in memory
    pixels: str = ORIGINAL  # or which preparation they come from: near the originals', and not the same
    damage: DamageLog | None = None  # of the training images; load_data makes it
    passed_over: PassedOver = field(default_factory=PassedOver)  # files in the folders of images that are none

    @property
    def num_classes(self) -> int:
        return len(self.classes)


class DataSets(Registry[Callable[[DataConfig], DataSet]]):
    """Functions that find a data set and leave `val` to load_data."""

    def register(self, name: str, **settings: object) -> Callable[[T], T]:
        """Decorator. `settings`, literals, are what `data=<name>` stands for; data_settings.py reads them in the file."""
        return super().register(name)


DATA_SETS = DataSets("data set")
# Those whose images are files of their own: the same sets with all files listed, and no look at any image.
FILE_SETS: Registry[Callable[[DataConfig], DataSet]] = Registry("data set of image files")


def hold_out(split: Split, fraction: float, num_classes: int) -> tuple[Split, Split | None]:
    """(the rest, held out): the same images on every call, `fraction` of each class, at least one, and never the last.

    None is held out when `fraction` is 0 or no class has two images.
    """
    rng = np.random.default_rng(HOLD_OUT_SEED)
    held = torch.zeros(len(split), dtype=torch.bool)
    for label in range(num_classes if fraction else 0):
        members = torch.nonzero(split.labels == label).flatten().numpy()
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held[rng.permutation(members)[: max(count, 0)]] = True
    if not held.any():
        return split, None
    return split.subset(torch.nonzero(~held).flatten()), split.subset(torch.nonzero(held).flatten())


def root_of(config: DataConfig) -> Path:
    """The folder `data.root`, absolute, there or not. Raises UserError when it isn't given or can't be looked into."""
    if config.root is None:
        raise UserError(f"data={config.name} reads a folder: say which with data.root=<folder>")
    root = Path(config.root).expanduser().absolute()
    require_searchable(root)
    return root
