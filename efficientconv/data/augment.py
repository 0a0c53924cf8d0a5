"""Crops and flips of a whole batch at once, on its device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def crop_and_flip(images: Tensor, numbers: Tensor, size: int, padding: int, flip: bool) -> Tensor:
    """uint8 B x 3 x F x F -> B x 3 x size x size; `numbers` B x 3 in [0, 1) choose crop row, crop column and flip."""
    if padding:
        images = pad(images, (padding,) * 4)
    if (choices := images.shape[-1] - size + 1) > 1:
        rows, columns = (numbers[:, :2] * choices).long().unbind(1)
        # Views of all windows of all images; indexing copies the one of each that was drawn.
        windows = images.unfold(2, size, 1).unfold(3, size, 1)
        images = windows[torch.arange(len(images), device=images.device), :, rows, columns]
    if flip:
        images = torch.where((numbers[:, 2] < 0.5).view(-1, 1, 1, 1), images.flip(3), images)
    return images


def crop_centre(images: Tensor, size: int) -> Tensor:
    """uint8 B x 3 x F x F -> B x 3 x size x size, as torchvision's CenterCrop."""
    first = round((images.shape[-1] - size) / 2)
    return images[..., first : first + size, first : first + size]
