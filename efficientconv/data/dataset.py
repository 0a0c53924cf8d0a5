"""A data set: its classes, and three splits with images in memory or in files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from efficientconv.config import DataConfig
from efficientconv.data.damage import DamageLog, unreadable_named
from efficientconv.data.decode import rgb_pixels
from efficientconv.data.image_files import PassedOver, content_of, require_searchable
from efficientconv.data.prepared import PreparedSplit
from efficientconv.errors import UserError
from efficientconv.registry import Registry

HOLD_OUT_SEED = 1608_04337  # not the run's seed: all runs are compared on the same held-out images
ORIGINAL = "original"
RESIZE_CHUNK = 1024  # images; torch resizes uint8 by way of float, which is four times as large


def _resized(images: Tensor, size: int) -> Tensor:
    """Equals torchvision's resize to the bit."""
    return interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True).round_().to(torch.uint8)


@dataclass(frozen=True)
class MemorySplit:
    """Small images in memory: `images` uint8 N x 3 x S x S, `labels` int64 N."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> MemorySplit:
        return MemorySplit(self.images[indices], self.labels[indices])

    def resized(self, size: int) -> MemorySplit:
        """The split with images of `size` x `size` pixels, bilinear and antialiased; itself if they have that size."""
        if self.images.shape[-1] == size:
            return self
        return MemorySplit(torch.cat([_resized(chunk, size) for chunk in self.images.split(RESIZE_CHUNK)]), self.labels)


@dataclass(eq=False)
class FileSplit:
    """Images in files, one file each, that are decoded when they are needed. `labels` int64 N."""

    files: np.ndarray
    labels: Tensor

    def __init__(self, files: Sequence[str] | np.ndarray, labels: Tensor):
        # An array of bytes, not a list: each worker would copy the list, because reading it writes to its reference counts.
        self.files = files if isinstance(files, np.ndarray) else np.array([os.fsencode(path) for path in files], bytes)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def paths(self) -> list[str]:
        return list(map(os.fsdecode, self.files))

    def subset(self, indices: Tensor) -> FileSplit:
        return replace(self, files=self.files[indices.numpy()], labels=self.labels[indices])

    def name(self, index: int) -> str:
        """The path, for messages."""
        return os.fsdecode(self.files[index])

    def pixels(self, index: int) -> np.ndarray:
        """The image at its stored size, uint8 H x W x 3. Raises DamagedImage."""
        path = self.name(index)
        with unreadable_named(path):
            content = content_of(path)
        return rgb_pixels(content, path)


@dataclass(eq=False)
class SmallFileSplit(FileSplit):
    """Files that are small enough to be held in memory: load_data decodes them to `size` x `size` pixels."""

    size: int


Split = MemorySplit | FileSplit | PreparedSplit


@dataclass(frozen=True)
class DataSet:
    """`val` is held out of the training images and evaluated after each epoch. `test` is evaluated at the end."""

    name: str
    classes: list[str]  # by label
    image_size: int | None  # pixels a side fed to the network; None: the network's own
    train: Split
    val: Split | None
    test: Split
    pixels: str = ORIGINAL  # or the name of the preparation, whose pixels differ slightly
    damage: DamageLog | None = None  # of the training images; made by load_data
    passed_over: PassedOver = field(default_factory=PassedOver)  # other files in the folders of images

    @property
    def num_classes(self) -> int:
        return len(self.classes)


Finder = Callable[[DataConfig], DataSet]


class DataSets(Registry[Finder]):
    """Functions that find a data set. `val` is None in what they return: load_data holds it out."""

    def register(self, name: str, **settings: object) -> Callable[[Finder], Finder]:
        """Decorator. `settings` are the defaults of `data=<name>`: literals, as data_settings.py reads them as text."""
        return super().register(name)


DATA_SETS = DataSets("data set")
# The data sets of image files. These functions only list the files, and open none.
FILE_SETS: Registry[Finder] = Registry("data set of image files")


def hold_out(split: Split, fraction: float, num_classes: int) -> tuple[Split, Split | None]:
    """(the rest, held-out images): the same images on every call, a `fraction` of each class, but at least one image.

    A class keeps at least one image in the rest. Nothing is held out if `fraction` is 0 or no class has two images.
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
    """The absolute path of `data.root`, whether it exists or not. Raises UserError if it is not given or not readable."""
    if config.root is None:
        raise UserError(f"data={config.name} reads a folder: give it with data.root=<folder>")
    root = Path(config.root).absolute()
    require_searchable(root)
    return root
