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
        kept = self._kept(draws, indices, images.shape[-1]).to(images)
        targets = one_hot(labels, self.num_classes).to(images)
        share = kept.mean(dim=(1, 2, 3)).unsqueeze(1)  # of a box: by its pixels, as it may be cut off at an edge
        return torch.lerp(_partners(images), images, kept), torch.lerp(_partners(targets), targets, share)

    def _kept(self, draws: Draws, indices: np.ndarray, size: int) -> Tensor:
        """B x 1 x S x S: how much of each pixel stays."""
        share = torch.from_numpy(draws.share[indices]).float().view(-1, 1, 1, 1)
        half = size * (1 - share).sqrt() / 2
        rows, columns = (torch.from_numpy(size * c).float().view(-1, 1, 1, 1) for c in draws.centre[indices].T)
        place = torch.arange(size) + 0.5
        inside = ((place.view(-1, 1) - rows).abs() < half) & ((place - columns).abs() < half)
        return torch.where(torch.from_numpy(draws.box[indices]).view(-1, 1, 1, 1), (~inside).float(), share)


def _partners(values: Tensor) -> Tensor:
    return values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
