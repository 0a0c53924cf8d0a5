"""Learning-rate schedules as pure functions of the step: a resumed run needs no state for them."""

from __future__ import annotations

import math

from efficientconv.config import ScheduleConfig

# One-cycle, as torch's OneCycleLR has it by default.
ONECYCLE_RISE, ONECYCLE_START, ONECYCLE_END = 0.3, 1 / 25, 1 / 250_000


def lr_factor(schedule: ScheduleConfig, step: int, steps_per_epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by at optimizer step `step` = 0 .. steps_per_epoch * epochs - 1."""
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
