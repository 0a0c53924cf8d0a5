"""The images of a split by their index, as pixels: the one place that knows whether they lie in folders or prepared."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
from torch import Tensor

from efficientconv.data.damage import DamagedImage
from efficientconv.data.dataset import FileSplit
from efficientconv.data.image_files import content_of
from efficientconv.data.jpeg import rgb_pixels
from efficientconv.data.prepared import PreparedSplit
from efficientconv.data.resize import Resize, resized


class Images(Protocol):
    """Made before the workers start and used in each of them."""

    labels: Tensor  # int64 N

    def name(self, index: int) -> str:
        """For messages: the path, or the file and the name in it."""

    def stored(self, index: int) -> np.ndarray:
        """uint8 H x W x 3, as large as it is stored. Raises DamagedImage."""

    def sized(self, index: int) -> np.ndarray:
        """The same, resized as the configuration says. Raises DamagedImage."""


class FolderImages:
    """Files of their own, of all shapes, resized when they are read."""

    def __init__(self, split: FileSplit, resize: Resize):
        # An array of bytes: a list's reference counts would be written to, and so copied, in every worker.
        self.paths = np.array([os.fsencode(path) for path in split.paths])
        self.labels, self.resize = split.labels, resize

    def name(self, index: int) -> str:
        return os.fsdecode(self.paths[index])

    def stored(self, index: int) -> np.ndarray:
        path = self.name(index)
        try:
            content = content_of(path)
        except OSError as error:
            raise DamagedImage(path, error.strerror) from None
        return rgb_pixels(content, path)

    def sized(self, index: int) -> np.ndarray:
        pixels = self.stored(index)
        pixels = pixels[self.resize.middle(*pixels.shape[:2])]
        return resized(pixels, *self.resize.shape(*pixels.shape[:2]))


class PreparedImages:
    """Resized once, when the set was prepared."""

    def __init__(self, split: PreparedSplit):
        self.split, self.labels = split, split.labels

    def name(self, index: int) -> str:
        return self.split.name(index)

    def stored(self, index: int) -> np.ndarray:
        return self.split.pixels(index)

    sized = stored


def images_of(split: FileSplit | PreparedSplit, resize: Resize) -> Images:
    return FolderImages(split, resize) if isinstance(split, FileSplit) else PreparedImages(split)
