"""The learning rate at every step, against torch's own schedulers and against factors written out by hand."""

from __future__ import annotations

import pytest
import torch

from efficientconv.config import ScheduleConfig
from efficientconv.engine.optim import lr_factor

STEPS_PER_EPOCH, EPOCHS = 7, 6


def factors(**schedule: object) -> list[float]:
    config = ScheduleConfig(**schedule)
    return [lr_factor(config, step, STEPS_PER_EPOCH, EPOCHS) for step in range(STEPS_PER_EPOCH * EPOCHS)]


def torch_factors(make) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    lrs = []
    for _ in range(STEPS_PER_EPOCH * EPOCHS):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return lrs


def test_the_papers_schedule_divides_by_ten_every_thirty_epochs():
    config = ScheduleConfig(name="step", decay_every_epochs=30, decay_factor=0.1)
    at = [lr_factor(config, step, 5, 100) for step in (0, 149, 150, 299, 300, 499)]  # five steps an epoch
    assert at == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.001])


def test_one_cycle_is_torchs():
    def make(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=STEPS_PER_EPOCH * EPOCHS)

    assert factors(name="onecycle") == pytest.approx(torch_factors(make), abs=1e-12)


def test_cosine_is_torchs():
    def make(optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS_PER_EPOCH * EPOCHS)

    assert factors(name="cosine") == pytest.approx(torch_factors(make), abs=1e-12)


def test_warm_up_is_linear_and_ends_at_the_full_rate():
    warm = factors(name="step", warmup_epochs=1, decay_every_epochs=3, decay_factor=0.5)
    assert warm[:8] == pytest.approx([1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 1, 1])
    assert warm[20:22] == pytest.approx([1, 0.5])


def test_half_an_epoch_of_warm_up_before_a_cosine():
    warm = factors(name="cosine", warmup_epochs=0.5)
    assert warm[:5] == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 1])
    assert warm[-1] < 0.01
