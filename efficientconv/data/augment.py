"""Crops and flips of a whole batch at once, on its device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def crop_and_flip(images: Tensor, numbers: Tensor, size: int, padding: int, flip: bool) -> Tensor:
    """uint8 B x 3 x F x F -> B x 3 x size x size; `numbers` B x 3 in [0, 1) choose crop row, crop column and flip."""
    if padding:
        images = pad(images, (padding,) * 4)
    rows, columns = (numbers[:, :2] * (images.shape[-1] - size + 1)).long().unbind(1)
    mirrored = (numbers[:, 2] < 0.5) & flip
    windows = copy_windows if images.device.type == "cpu" else gather_windows
    return windows(images, rows, columns, mirrored, size)


def copy_windows(images: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """The window of each image that begins at its row and column, B each: one by one, which a CPU does ten times faster."""
    channels_last = images.stride(1) == 1
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty(len(images), 3, size, size, dtype=images.dtype, memory_format=memory_format)
    for target, image, top, left, mirror in zip(out, images, rows.tolist(), columns.tolist(), mirrored.tolist()):
        window = image[:, top : top + size, left : left + size]
        target.copy_(window.flip(2) if mirror else window)
    return out


def gather_windows(images: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """The same in a few operations for all, as a GPU likes it."""
    place = torch.arange(size, device=images.device)
    y = rows[:, None] + place
    x = columns[:, None] + torch.where(mirrored[:, None], place.flip(0), place)
    image = torch.arange(len(images), device=images.device)
    return images[image[:, None, None], :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def crop_centre(images: Tensor, size: int) -> Tensor:
    """uint8 B x 3 x F x F -> B x 3 x size x size, as torchvision's CenterCrop."""
    first = round((images.shape[-1] - size) / 2)
    return images[..., first : first + size, first : first + size]
