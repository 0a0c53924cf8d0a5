"""Antialiased resizing: PIL's algorithm in torch's vectorised form, which differs from PIL by at most one grey level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

LONGEST = 65_500  # pixels of a side after resizing: the limit of JPEG; 256 x 65,500 pixels take 50 MB


@dataclass(frozen=True)
class Resize:
    """Resizes both sides to `size` pixels, or the shorter side and the other in proportion. size None: no resizing."""

    size: int | None
    rule: str  # both or shorter

    @property
    def fixed_size(self) -> int | None:
        """The side in pixels if all images become squares of one size, otherwise None."""
        return self.size if self.rule == "both" else None

    def middle(self, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns of an image that are resized: all, or the middle of a strip that would exceed LONGEST.

        A strip of 40,000 x 3 pixels, resized in proportion, would take gigabytes. A crop uses only a square of it.
        """
        if self.size is None or self.rule == "both":
            return slice(0, height), slice(0, width)
        most = max(2, LONGEST // self.size) * min(height, width)
        rows, columns = (max(0, side - most + 1) // 2 for side in (height, width))  # cut off at each end: the centre stays
        return slice(rows, height - rows), slice(columns, width - columns)

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after resizing. The longer side is rounded down, as torchvision does."""
        if self.size is None:
            return height, width
        if self.rule == "both":
            return self.size, self.size
        shorter = min(height, width)
        return self.size * height // shorter, self.size * width // shorter

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Resizes uint8 H x W x 3. An image that has the size already stays as it is."""
        pixels = pixels[self.middle(*pixels.shape[:2])]
        return resized(pixels, *self.shape(*pixels.shape[:2]))

    def __str__(self) -> str:
        if self.size is None:
            return "no resizing"
        return f"{'both sides' if self.rule == 'both' else 'the shorter side'} {self.size}"


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 H x W x 3 -> height x width x 3, bilinear and antialiased."""
    if pixels.shape[:2] == (height, width):
        return pixels
    # A batch of one, channels last, is the form that torch has vector code for.
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return interpolate(image, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
