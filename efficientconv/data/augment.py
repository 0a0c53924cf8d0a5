"""Augments a batch of frames on the device: crops, flips, normalisation, mixup and cutmix.

Mixup and cutmix mix each image with its neighbour: images 2k and 2k + 1 are partners. The order of an epoch is a
permutation, so the partners are random. Every process has an even number of images in a batch, so the pairs do not depend
on the number of processes. The random numbers of an image are a function of (seed, epoch, image).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from efficientconv.data.sampling import mixing_generator


def crop_and_flip(images: Tensor, numbers: Tensor, size: int, padding: int, flip: bool) -> Tensor:
    """uint8 B x 3 x F x F -> B x 3 x size x size; `numbers` B x 3 in [0, 1) choose crop row, crop column and flip."""
    if padding:
        images = pad(images, (padding,) * 4)
    rows, columns = (numbers[:, :2] * (images.shape[-1] - size + 1)).long().unbind(1)
    mirrored = (numbers[:, 2] < 0.5) & flip
    windows = copy_windows if images.device.type == "cpu" else gather_windows
    return windows(images, rows, columns, mirrored, size)


def copy_windows(images: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """Cuts a window out of each image at its row and column, one image at a time: ten times faster on a CPU."""
    channels_last = images.stride(1) == 1
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty(len(images), 3, size, size, dtype=images.dtype, memory_format=memory_format)
    for target, image, top, left, mirror in zip(out, images, rows.tolist(), columns.tolist(), mirrored.tolist()):
        window = image[:, top : top + size, left : left + size]
        target.copy_(window.flip(2) if mirror else window)
    return out


def gather_windows(images: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """Equals copy_windows, in a few operations for all images: faster on a GPU."""
    place = torch.arange(size, device=images.device)
    y = rows[:, None] + place
    x = columns[:, None] + torch.where(mirrored[:, None], place.flip(0), place)
    image = torch.arange(len(images), device=images.device)
    return images[image[:, None, None], :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def crop_centre(images: Tensor, size: int) -> Tensor:
    """uint8 B x 3 x F x F -> B x 3 x size x size, as torchvision's CenterCrop."""
    first = round((images.shape[-1] - size) / 2)
    return images[..., first : first + size, first : first + size]


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
        """Makes mean and std as large as an image: a CPU subtracts these in a fifth of the time."""
        if self.mean.shape[2:] != images.shape[2:]:
            shape = (1, *images.shape[1:])
            self.mean, self.std = (
                v[..., :1, :1].expand(shape).contiguous(memory_format=self.memory_format) for v in (self.mean, self.std)
            )


@dataclass(frozen=True)
class Draws:
    """The random numbers of each image: the share that it keeps, a box or a blend, the centre of the box (0..1)."""

    share: np.ndarray
    box: np.ndarray
    centre: np.ndarray  # N x 2: row, column

    def of(self, indices: np.ndarray, size: int, device: torch.device) -> Tensor:
        """float32 B x 4 on `device`: share, box, the centre's row and column in pixels. The device makes the masks."""
        columns = self.share[indices], self.box[indices], size * self.centre[indices]
        return torch.from_numpy(np.column_stack(columns).astype(np.float32)).to(device, non_blocking=True)


class Mixing:
    """Mixup (arXiv:1710.09412) with Beta(mixup_alpha), cutmix (arXiv:1905.04899) with Beta(cutmix_alpha), or either."""

    def __init__(self, mixup_alpha: float, cutmix_alpha: float, num_classes: int):
        self.mixup_alpha, self.cutmix_alpha, self.num_classes = mixup_alpha, cutmix_alpha, num_classes

    def draws(self, seed: int, epoch: int, num_images: int) -> Draws:
        rng = mixing_generator(seed, epoch)
        chance = bool(self.cutmix_alpha) / (bool(self.cutmix_alpha) + bool(self.mixup_alpha))
        box = rng.random(num_images) < chance
        alphas = np.where(box, self.cutmix_alpha, self.mixup_alpha)
        return Draws(rng.beta(alphas, alphas), box, rng.random((num_images, 2)))

    def __call__(self, images: Tensor, labels: Tensor, draws: Draws, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """(B x 3 x S x S, labels B, B even) -> (the same shape, the classes' shares B x num_classes, float32)."""
        size = images.shape[-1]
        kept = _kept(draws.of(indices, size, images.device), size)
        targets = one_hot(labels, self.num_classes).to(images)
        share = kept.mean(dim=(1, 2, 3)).unsqueeze(1)  # counted in pixels, because an edge may cut a box off
        return torch.lerp(_partners(images), images, kept), torch.lerp(_partners(targets), targets, share)


def _kept(numbers: Tensor, size: int) -> Tensor:
    """B x 4 of `Draws.of` -> B x 1 x S x S: the share of each pixel that stays."""
    share, box, row, column = numbers.view(-1, 4, 1, 1, 1).unbind(1)
    half = size * (1 - share).sqrt() / 2
    place = torch.arange(size, device=numbers.device) + 0.5
    inside = ((place.view(-1, 1) - row).abs() < half) & ((place - column).abs() < half)
    return torch.where(box > 0, (~inside).float(), share)


def _partners(values: Tensor) -> Tensor:
    return values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
