"""Exponential moving average of a model's weights and of its batch norm statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """`model` is a copy whose floating-point state trails the trained one's.

    The decay at step t (counted from 0) is min(decay, (1 + t) / (10 + t)), so that short runs are not held by their start.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """All tensors of a kind in one call: a launch or two on a GPU, not one each."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values()))
        means, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()))
        torch._foreach_lerp_(means, values, weight)
        if counts := [pair for pair in pairs if not pair[0].is_floating_point()]:
            torch._foreach_copy_(*zip(*counts))
