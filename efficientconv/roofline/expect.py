"""The expected time of a training step on a GPU, for each way to run the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from efficientconv.config import ModelConfig
from efficientconv.errors import UserError
from efficientconv.models import LAYOUTS, create_model, image_size_of, model_config
from efficientconv.roofline.execution import EXECUTIONS
from efficientconv.roofline.limit import Time, expected, limit
from efficientconv.roofline.machine import GUESSED, MACHINES
from efficientconv.roofline.measured import Device
from efficientconv.roofline.step import Setting, step_of
from efficientconv.roofline.work import Work

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
BASELINE = "a"

Ways = Mapping[str, Sequence[Work]]  # a step by the way of running it


@dataclass(frozen=True)
class Expectation:
    """The times of one model, run one way on one device. `over_a`: the time over that of model A, run the same way.

    guessed: expected without any measurement. expected: with the measured shares of the peaks, if there are any.
    """

    device: str
    model: str
    execution: str
    gflop_per_image: float
    mb_per_image: float
    operations: int
    limit: Time
    guessed: Time
    expected: Time
    measured_s: float | None
    images_per_s: float  # expected
    guessed_over_a: float
    over_a: float
    measured_over_a: float | None

    @property
    def share(self) -> float | None:
        """The share of the limit that the measured time reaches."""
        return None if self.measured_s is None else self.limit.seconds / self.measured_s


def expectations(models: Sequence[ModelConfig], devices: Mapping[str, Device], setting: Setting) -> list[Expectation]:
    """Device by device, model by model. Raises UserError for a network without this project's layers."""
    a = ways_of(model_config(BASELINE), setting)
    steps = {model.name: ways_of(model, setting) for model in models}
    return [
        _expectation(name, device, model, execution, works, a[execution], setting) for name, device in devices.items()
        for model, ways in steps.items() for execution, works in ways.items()
    ]  # fmt: skip


def ways_of(model: ModelConfig, setting: Setting) -> Ways:
    if model.trunk == "torchvision":
        raise UserError(f"roofline: model {model.name} has none of this project's layers; choose one of a to o")
    classes, size = LAYOUTS[setting.layout]
    side = image_size_of(model, size)
    network = create_model(model, classes, layout=setting.layout, image_size=size)
    step = step_of(network, (3, side, side), setting.batch, DTYPES[setting.precision], setting.training)
    return {name: run(step) for name, run in EXECUTIONS.items()}


def _expectation(
    name: str, device: Device, model: str, execution: str, works: Sequence[Work], a: Sequence[Work], setting: Setting
) -> Expectation:
    unmeasured = MACHINES.get(name, device.machine)
    guessed, guessed_a = (expected(done, unmeasured, setting.precision, GUESSED) for done in (works, a))
    time, of_a = (expected(done, device.machine, setting.precision, device.shares) for done in (works, a))
    measured, measured_a = (device.seconds.get((letter, execution)) for letter in (model, BASELINE))
    flops, moved = sum(work.flops for work in works), sum(work.bytes for work in works)
    return Expectation(
        name, model, execution, flops / setting.batch / 1e9, moved / setting.batch / 1e6, len(works),
        limit(works, device.machine, setting.precision), guessed, time, measured, setting.batch / time.seconds,
        guessed.seconds / guessed_a.seconds, time.seconds / of_a.seconds,
        measured / measured_a if measured and measured_a else None,
    )  # fmt: skip
