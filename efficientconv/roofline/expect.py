"""What a training step is expected to take on a GPU, run in each way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from efficientconv.config import ModelConfig
from efficientconv.errors import UserError
from efficientconv.models import create_model, image_size_of, model_config
from efficientconv.roofline.execution import EXECUTIONS
from efficientconv.roofline.limit import Time, expected, limit
from efficientconv.roofline.machine import Machine, Share
from efficientconv.roofline.step import step_of
from efficientconv.roofline.work import Work

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
LAYOUTS = {"imagenet": (1000, None), "cifar": (10, 32)}  # classes, pixels a side (None: the layout's own)
BASELINE = "a"

Ways = Mapping[str, Sequence[Work]]  # a step by the way of running it


@dataclass(frozen=True)
class Setting:
    batch: int
    precision: str
    layout: str


@dataclass(frozen=True)
class Expectation:
    """Of one model, run one way on one device."""

    device: str
    model: str
    execution: str
    gflop_per_image: float
    mb_per_image: float
    operations: int
    limit: Time
    expected: Time
    images_per_s: float  # expected
    over_a: float  # expected time against model A's, run the same way


def expectations(
    models: Sequence[ModelConfig],
    machines: Mapping[str, Machine],
    shares: Mapping[str, Mapping[str, Share]],
    setting: Setting,
) -> list[Expectation]:
    """Device by device, model by model. `shares` by device. Raises UserError for a network without this project's layers."""
    a = ways_of(model_config(BASELINE), setting)
    steps = {model.name: ways_of(model, setting) for model in models}
    return [
        row for device, machine in machines.items() for model, ways in steps.items()
        for row in _on_device(device, machine, shares[device], model, ways, a, setting)
    ]  # fmt: skip


def ways_of(model: ModelConfig, setting: Setting) -> Ways:
    if model.trunk == "torchvision":
        raise UserError(f"roofline: model {model.name} has none of this project's layers; choose one of a to o")
    classes, size = LAYOUTS[setting.layout]
    side = image_size_of(model, size)
    network = create_model(model, classes, layout=setting.layout, image_size=size)
    step = step_of(network, (3, side, side), setting.batch, DTYPES[setting.precision])
    return {name: run(step) for name, run in EXECUTIONS.items()}


def _on_device(
    device: str, machine: Machine, shares: Mapping[str, Share], model: str, ways: Ways, a: Ways, setting: Setting
) -> Iterator[Expectation]:
    for execution, works in ways.items():
        time, of_a = (expected(done, machine, setting.precision, shares) for done in (works, a[execution]))
        flops, moved = sum(work.flops for work in works), sum(work.bytes for work in works)
        yield Expectation(
            device, model, execution, flops / setting.batch / 1e9, moved / setting.batch / 1e6, len(works),
            limit(works, machine, setting.precision), time, setting.batch / time.seconds, time.seconds / of_a.seconds,
        )  # fmt: skip
