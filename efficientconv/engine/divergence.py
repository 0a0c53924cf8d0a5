"""A loss or weights that are no longer finite: found, never saved, and what is done about it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from efficientconv.errors import UserError

# Asking a GPU for a figure waits for all that it has queued.
CHECK_EVERY_STEPS = {"cpu": 1, "cuda": 20}


class Diverged(UserError):
    """Training has left the finite numbers; the last good checkpoint stays."""

    exit_code = 3


class FiniteWatch:
    """Remembers, on the device, the first step whose loss was not finite."""

    def __init__(self, device: torch.device):
        self.bad_step = torch.full((), -1, device=device)
        self.every = CHECK_EVERY_STEPS[device.type]

    def add(self, loss: Tensor, step: int) -> None:
        first = (self.bad_step < 0) & ~torch.isfinite(loss.detach())
        self.bad_step = torch.where(first, step, self.bad_step)

    def found(self, step: int) -> bool:
        """At some steps only; those between are told by the next."""
        return step % self.every == 0 and self.first_bad_step() is not None

    def first_bad_step(self) -> int | None:
        step = int(self.bad_step)
        return None if step < 0 else step


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
