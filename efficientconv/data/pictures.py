"""Images of a Python program: PIL images, arrays and tensors in the place of files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from efficientconv.data.decode import as_rgb
from efficientconv.errors import UserError

Picture = Image.Image | np.ndarray | Tensor


class Pictures:
    """A split of images of any size, without labels.

    Args:
        images: one image, a list, or a batch of equal size: PIL images, uint8 arrays H x W x 3, uint8 tensors 3 x H x W.
    Raises:
        UserError: no image, or one of another kind.
    """

    def __init__(self, images: Picture | Sequence[Picture]):
        several = isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4
        self._pixels = [_pixels(image) for image in (images if several else [images])]  # type: ignore[union-attr]
        self.labels = torch.zeros(len(self), dtype=torch.int64)
        if not self._pixels:
            raise UserError("no image to prepare: give one or more")

    def __len__(self) -> int:
        return len(self._pixels)

    def name(self, index: int) -> str:
        return f"image {index}"

    def pixels(self, index: int) -> np.ndarray:
        """uint8 H x W x 3."""
        return self._pixels[index]


def _pixels(image: object) -> np.ndarray:
    if isinstance(image, Image.Image):
        return np.array(as_rgb(image))
    pixels = image.movedim(0, -1).numpy(force=True) if isinstance(image, Tensor) and image.ndim else image
    if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    kind = f"{type(image).__name__} {getattr(image, 'dtype', '')} {list(getattr(image, 'shape', []))}"
    raise UserError(f"an image is a PIL image, a uint8 array H x W x 3 or a uint8 tensor 3 x H x W, not {kind}")
