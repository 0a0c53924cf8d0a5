"""Computes the bytes and FLOPs of a training step, and the expected time of the step on a GPU.

    python scripts/roofline.py model=c device=h100      prints the times: eager, compiled, with fused layers
    python scripts/roofline.py model=c images=cifar batch=64 precision=fp32
    python scripts/roofline.py                          nine models on all devices; writes results/roofline.md and .csv

An expected time assumes that the GPU reaches a share of its peak bandwidth and of its peak FLOPs. If scripts/gpu_day.py has
measured these shares on the device, the command uses them and shows the measured time of the step too. Otherwise the shares
are guesses.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from checkout import ROOT
from efficientconv.help import answer_help
from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()
    answer_help("roofline")  # now: the imports take seconds

from hydra.core.hydra_config import HydraConfig
from pydantic import Field

from efficientconv import cli
from efficientconv.arguments import require_writable
from efficientconv.config import ModelConfig, Positive
from efficientconv.errors import UserError, did_you_mean
from efficientconv.models import model_config
from efficientconv.results import roofline_table
from efficientconv.roofline.expect import expectations
from efficientconv.roofline.machine import MACHINES
from efficientconv.roofline.measured import with_measured
from efficientconv.roofline.step import Setting
from efficientconv.validation import Section, UserPath, validate

MODELS = "acfhijklm"


class Order(Section):
    """The settings of configs/roofline.yaml."""

    model: ModelConfig | None = None
    device: str | None
    batch: Annotated[Positive, Field(le=65536)]
    precision: Literal["bf16", "fp16", "fp32"]
    images: Literal["imagenet", "cifar"]
    output_dir: UserPath | None


@cli.entry("roofline")
def main(values: dict) -> None:
    order = validate(Order, values)
    setting = Setting(order.batch, order.precision, order.images)
    gpus = ROOT / "results" / "gpu"
    machines = {name: with_measured(name, MACHINES[name], gpus, setting) for name in devices(order.device)}
    models = [order.model] if order.model else [model_config(name) for name in MODELS]
    found = roofline_table.Found(expectations(models, machines, setting), machines, setting)
    print(roofline_table.text(found))
    if order.model is None:
        folder = Path(order.output_dir or ROOT / "results")
        require_writable(folder)
        for path in roofline_table.write(found, folder, command()):
            print(f"wrote {path}")


def command() -> str:
    """The command as typed, but for the folder of the files."""
    given = [setting for setting in HydraConfig.get().overrides.task if not setting.startswith("output_dir=")]
    return shlex.join(["python", "scripts/roofline.py", *given])


def devices(name: str | None) -> list[str]:
    """The devices to compute. Raises UserError for an unknown device."""
    if name is not None and name not in MACHINES:
        raise UserError(f"unknown device '{name}': {did_you_mean(name, MACHINES)}")
    return list(MACHINES) if name is None else [name]


if __name__ == "__main__":
    main()
