"""A loss or weights that are no longer finite: found, never saved, and what is done about it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from efficientconv.errors import UserError

# Asking a GPU for a figure waits for all that it has queued.
CHECK_EVERY_STEPS = {"cpu": 1, "cuda": 20}


class Diverged(UserError):
    """Training has left the finite numbers; the last good checkpoint stays."""

    exit_code = 3


class FiniteWatch:
    """Keeps the losses of the last steps on the device, a copy each, and looks at them all at once.

    Args:
        losses_per_step: how often `add` is called in a step.
    """

    def __init__(self, device: torch.device, losses_per_step: int):
        self.every = CHECK_EVERY_STEPS[device.type]
        self.losses = torch.zeros(self.every * losses_per_step, device=device)
        self.steps: list[int] = []  # of the losses that were not looked at yet
        self.bad_step: int | None = None

    def add(self, loss: Tensor, step: int) -> None:
        if len(self.steps) == len(self.losses):
            self.first_bad_step()
        self.losses[len(self.steps)].copy_(loss.detach())
        self.steps.append(step)

    def found(self, step: int) -> bool:
        """At some steps only; those between are told by the next."""
        return step % self.every == 0 and self.first_bad_step() is not None

    def first_bad_step(self) -> int | None:
        losses = self.losses[: len(self.steps)].tolist()  # waits for the device
        bad = (step for step, loss in zip(self.steps, losses) if not math.isfinite(loss))
        self.bad_step = next(bad, None) if self.bad_step is None else self.bad_step
        self.steps.clear()
        return self.bad_step


def require_finite(trainer, world) -> None:
    """Raises Diverged, in all processes of `world` alike, when the loss or the weights are not finite.

    A bad gradient shows in the weights a step before it shows in the loss.
    """
    bad_step = trainer.watch.first_bad_step()
    (diverged,) = world.any(bad_step is not None or not _is_finite(trainer.model))
    if diverged:
        where = f"the loss of step {bad_step}" if bad_step is not None else f"a weight after step {trainer.step}"
        raise Diverged(
            f"training has diverged: {where} is not finite; the last good checkpoint is kept; try a lower optim.lr, a "
            "schedule.warmup_epochs, or trainer.on_divergence=rollback"
        )


def _is_finite(model: nn.Module) -> bool:
    tensors = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())
