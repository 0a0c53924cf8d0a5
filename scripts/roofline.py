"""What a training step must move and multiply, what it is expected to take on a GPU, and what it was measured to take.

    python scripts/roofline.py model=c device=h100      eager, compiled and with fused layers; prints
    python scripts/roofline.py model=c images=cifar batch=64 precision=fp32
    python scripts/roofline.py                          models A to M on all devices; writes results/roofline.md and .csv

Where scripts/gpu_day.py has measured on such a device, the shares of its peaks take the place of the guessed ones, and the
measured time of a step stands beside the expected one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from checkout import ROOT
from efficientconv.help import answer_help
from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()
    answer_help("roofline")  # now: the imports take seconds

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
from efficientconv.validation import Section, validate

MODELS = "acfhijklm"


class Order(Section):
    """What was asked for: configs/roofline.yaml."""

    model: ModelConfig | None = None
    device: str | None
    batch: Annotated[Positive, Field(le=65536)]
    precision: Literal["bf16", "fp16", "fp32"]
    images: Literal["imagenet", "cifar"]
    output_dir: str | None


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
        for path in roofline_table.write(found, folder, "python scripts/roofline.py"):
            print(f"wrote {path}")


def devices(name: str | None) -> list[str]:
    """Raises UserError for one that is unknown."""
    if name is not None and name not in MACHINES:
        raise UserError(f"unknown device '{name}': {did_you_mean(name, MACHINES)}")
    return list(MACHINES) if name is None else [name]


if __name__ == "__main__":
    main()
