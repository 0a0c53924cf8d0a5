"""Resizing as the recipe says, antialiased: PIL's algorithm in torch's vectorised form, at most one grey level from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

LONGEST = 65_500  # pixels of a side afterwards: what JPEG can hold; 256 times as many take 50 MB


@dataclass(frozen=True)
class Resize:
    """To `size` pixels: both sides, or the shorter one and the other in proportion. size None: not at all."""

    size: int | None
    rule: str  # both or shorter

    @property
    def fixed_size(self) -> int | None:
        """Pixels a side of every image, where they all become squares of one size."""
        return self.size if self.rule == "both" else None

    def middle(self, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns of an image that are resized: all, and of a strip longer than LONGEST its middle.

        Resized in proportion, 40,000 x 3 pixels would take gigabytes. A crop sees a square of them.
        """
        if self.size is None or self.rule == "both":
            return slice(0, height), slice(0, width)
        most = max(2, LONGEST // self.size) * min(height, width)
        rows, columns = (max(0, side - most + 1) // 2 for side in (height, width))  # cut off at each end: the centre stays
        return slice(rows, height - rows), slice(columns, width - columns)

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) afterwards, of what is resized; the longer side is rounded down, as torchvision does."""
        if self.size is None:
            return height, width
        if self.rule == "both":
            return self.size, self.size
        shorter = min(height, width)
        return self.size * height // shorter, self.size * width // shorter

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 H x W x 3; what was resized so already stays as it is."""
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
