"""Finds a loss or weights that are no longer finite, so that no such state is saved."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from efficientconv.errors import UserError

# Steps between two looks at the losses. A look at a GPU waits until all queued work is done.
CHECK_EVERY_STEPS = {"cpu": 1, "cuda": 20}


class Diverged(UserError):
    """The loss or a weight is not finite. The last good checkpoint stays."""

    exit_code = 3


class FiniteWatch:
    """Keeps a copy of each loss of the last steps on the device, and checks all of them at once.

    Args:
        losses_per_step: number of `add` calls in one step.
    """

    def __init__(self, device: torch.device, losses_per_step: int):
        self.every = CHECK_EVERY_STEPS[device.type]
        self.losses = torch.zeros(self.every * losses_per_step, device=device)
        self.steps: list[int] = []  # of the losses that were not checked yet
        self.bad_step: int | None = None

    def add(self, loss: Tensor, step: int) -> None:
        if len(self.steps) == len(self.losses):
            self.first_bad_step()
        self.losses[len(self.steps)].copy_(loss.detach())
        self.steps.append(step)

    def found(self, step: int) -> bool:
        """Whether a loss is bad. Checks every few steps only; such a check includes the steps since the last one."""
        return step % self.every == 0 and self.first_bad_step() is not None

    def first_bad_step(self) -> int | None:
        losses = self.losses[: len(self.steps)].tolist()  # waits for the device
        bad = (step for step, loss in zip(self.steps, losses) if not math.isfinite(loss))
        self.bad_step = next(bad, None) if self.bad_step is None else self.bad_step
        self.steps.clear()
        return self.bad_step


def is_finite(model: nn.Module) -> bool:
    """Whether all weights and buffers of `model` are finite numbers."""
    tensors = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())
