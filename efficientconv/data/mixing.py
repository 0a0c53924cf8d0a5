"""Mixup and cutmix: each image of a batch mixed with its neighbour, on the device.

Images 2k and 2k + 1 are each other's partners. An epoch's order is a permutation, so partners are random, and as every
process has an even number of images, pairs are the same for any number of processes. How an image is mixed is a function
of (seed, epoch, image).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from efficientconv.data.sampling import mixing_generator


@dataclass(frozen=True)
class Draws:
    """By image index: the share that the image keeps, whether it gets a box (else a blend), the box's centre in 0..1."""

    share: np.ndarray
    box: np.ndarray
    centre: np.ndarray  # N x 2: row, column

    def of(self, indices: np.ndarray, size: int, device: torch.device) -> Tensor:
        """float32 B x 4 on `device`: share, box, the centre's row and column in pixels. A batch sends no more: no mask."""
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
        share = kept.mean(dim=(1, 2, 3)).unsqueeze(1)  # of a box: by its pixels, as it may be cut off at an edge
        return torch.lerp(_partners(images), images, kept), torch.lerp(_partners(targets), targets, share)


def _kept(numbers: Tensor, size: int) -> Tensor:
    """B x 4 of `Draws.of` -> B x 1 x S x S: how much of each pixel stays."""
    share, box, row, column = numbers.view(-1, 4, 1, 1, 1).unbind(1)
    half = size * (1 - share).sqrt() / 2
    place = torch.arange(size, device=numbers.device) + 0.5
    inside = ((place.view(-1, 1) - row).abs() < half) & ((place - column).abs() < half)
    return torch.where(box > 0, (~inside).float(), share)


def _partners(values: Tensor) -> Tensor:
    return values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
