"""Whether the device computes what a CPU computes, and the same twice."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from efficientconv.engine.precision import set_determinism, set_tf32
from efficientconv.gpu_day.bench import Bench, Row, steps
from efficientconv.layers.backend import set_backend

# Largest difference of a logit after a step: rounding alone, behind batch norm's division by small deviations.
TOLERANCES = {"fp32": 1e-3, "bf16": 0.2, "fp16": 0.05}
STEPS = 4
SMALL = {"layout": "cifar", "global_batch_size": 8}


def against_cpu(bench: Bench) -> Iterator[Row]:
    """A step of each model on the device and in plain PyTorch on the CPU, from equal weights, without TF32."""
    set_tf32(False)
    narrow = Bench(bench.device, tiny=True)
    for name in bench.models("cafikm"):
        for precision, tolerance in TOLERANCES.items():
            ours, cpu = (_logits(place, name, precision) for place in (narrow, Bench(torch.device("cpu"), tiny=True)))
            difference = (ours - cpu).abs().max().item()
            yield {
                "model": name, "precision": precision, "largest_difference": difference, "tolerance": tolerance,
                "finite": math.isfinite(difference), "right": difference <= tolerance,
            }  # fmt: skip


def twice(bench: Bench) -> Iterator[Row]:
    """Deterministic runs of a few steps, from the same seed: equal bits? And what a step of them takes."""
    for name in bench.models("ck"):
        set_determinism(True)
        first, second = (_trained(Bench(bench.device, tiny=True), name) for _ in range(2))
        equal = all(torch.equal(a, b) for a, b in zip(first.values(), second.values()))
        deterministic = bench.step_row(name)
        set_determinism(False)
        fast = bench.step_row(name)
        yield {
            "model": name, "equal_bits": equal, "ms_per_step_deterministic": deterministic["ms_per_step"],
            "ms_per_step": fast["ms_per_step"],
        }  # fmt: skip


def _logits(bench: Bench, name: str, precision: str) -> torch.Tensor:
    trainer = bench.trainer(name, SMALL["layout"], precision=precision)
    set_backend(trainer.model, "reference")
    trainer.model.head.dropout.p = 0.0  # devices draw other numbers
    steps(trainer, SMALL["layout"])()
    noise = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return trainer.model.eval()(noise.to(bench.device)).float().cpu()


def _trained(bench: Bench, name: str) -> dict[str, torch.Tensor]:
    trainer = bench.trainer(name, SMALL["layout"])
    step = steps(trainer, SMALL["layout"])
    for _ in range(STEPS):
        step()
    return trainer.model.state_dict()
