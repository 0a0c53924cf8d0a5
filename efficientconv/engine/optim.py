"""The optimizer and its parameter groups, the learning rate of each step, and the moving average of the weights.

Schedules are pure functions of the step: a continued run needs no state for them.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from efficientconv.config import OptimConfig, ScheduleConfig

# The one-cycle schedule has the defaults of torch's OneCycleLR.
ONECYCLE_RISE, ONECYCLE_START, ONECYCLE_END = 0.3, 1 / 25, 1 / 250_000


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD. Batch norm and biases (fewer than two dimensions) have no weight decay, unless `decay_norms` is set [D]."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    of_others = config.weight_decay if config.decay_norms else 0.0
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": of_others}]
    # fused: one call for all weights; on a GPU, fp16's check for overflow needs no wait for the device
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Loads `state`. Momenta get the memory format of their weights: a fused optimizer assumes it, and reads no strides."""
    optimizer.load_state_dict(state)
    for weight, buffers in optimizer.state.items():
        if (momentum := buffers.get("momentum_buffer")) is not None:
            buffers["momentum_buffer"] = torch.empty_like(weight).copy_(momentum)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def lr_factor(schedule: ScheduleConfig, step: int, steps_per_epoch: int, epochs: int) -> float:
    """The factor of the learning rate at optimizer step `step` = 0 .. steps_per_epoch * epochs - 1."""
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    total_steps = steps_per_epoch * epochs
    if schedule.name == "step":
        return schedule.decay_factor ** (step // steps_per_epoch // schedule.decay_every_epochs)
    if schedule.name == "cosine":
        return _cosine(1.0, 0.0, (step - warmup_steps) / (total_steps - warmup_steps))
    return _onecycle(step, total_steps)


def _onecycle(step: int, total_steps: int) -> float:
    peak = ONECYCLE_RISE * total_steps - 1
    if step <= peak:
        return _cosine(ONECYCLE_START, 1.0, step / peak)
    return _cosine(1.0, ONECYCLE_END, (step - peak) / (total_steps - 1 - peak))


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


class EMA:
    """The exponential moving average of the weights and buffers: `model` is a copy of the trained model that holds them.

    At step t (from 0) the decay is min(decay, (1 + t) / (10 + t)), so that the first weights count little in short runs.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Updates the average. One call does all tensors of a kind: one or two launches on a GPU, not one for each."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values()))
        means, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()))
        torch._foreach_lerp_(means, values, weight)
        if counts := [pair for pair in pairs if not pair[0].is_floating_point()]:
            torch._foreach_copy_([mean for mean, _ in counts], [value for _, value in counts])
