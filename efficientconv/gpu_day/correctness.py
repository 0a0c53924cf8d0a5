"""Tests whether the device computes the same as a CPU, and the same bits twice."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from efficientconv.engine.device import set_determinism, set_tf32
from efficientconv.engine.trainer import Trainer
from efficientconv.gpu_day.bench import Bench, Row, steps
from efficientconv.layers.backend import set_backend

CPU = torch.device("cpu")
PRECISIONS = ("fp32", "bf16", "fp16")
ROUNDINGS = 10  # times the CPU's rounding, which differs by 5 in model m between one thread and two: the order of sums
STEPS = 4
LAYOUT = "cifar"


def against_cpu(bench: Bench) -> Iterator[Row]:
    """A step of each model on the device and in plain PyTorch on the CPU, from equal weights, without TF32."""
    for name in bench.models("cafikm"):
        yield from compared(bench.device, name)


def compared(device: torch.device, name: str) -> Iterator[Row]:
    """A row for each precision. Logits are right if they differ from the CPU's by no more than the CPU's rounding does.

    The CPU's rounding is its difference from float64. No fixed tolerance fits all models, because rounding grows with the
    logits. After a step these reach 4,000 in model i and 2 in model a: the running statistics are still far from the maps'.
    """
    set_tf32(False)
    exact = logits(CPU, name, "float64")
    for precision in PRECISIONS:
        ours, cpu = (logits(place, name, precision) for place in (device, CPU))
        difference, rounding = ((a - b).abs().max().item() for a, b in ((ours, cpu), (cpu, exact)))
        yield {
            "model": name, "precision": precision, "largest_logit": exact.abs().max().item(),
            "largest_difference": difference, "cpu_rounding": rounding, "right": difference <= ROUNDINGS * rounding,
        }  # fmt: skip
    set_tf32(True)


def logits(device: torch.device, name: str, precision: str, trained: int = 1, **settings: object) -> Tensor:
    """The logits of a narrow network after `trained` steps in fp32, bf16, fp16 or float64; as float64 on the CPU."""
    bench = Bench(device, tiny=True)
    dtype = torch.float64 if precision == "float64" else torch.float32
    trainer = bench.trainer(name, LAYOUT, precision="fp32" if precision == "float64" else precision, **settings)
    set_backend(trainer.model.to(dtype), "reference")
    trainer.model.head.dropout.p = 0.0  # devices draw different random numbers
    _train(trainer, name, trained)
    noise = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return trainer.model.eval()(noise.to(device, dtype)).double().cpu()


def twice(bench: Bench) -> Iterator[Row]:
    """Whether two deterministic runs of a few steps from the same seed have equal bits, and the time of a step."""
    for name in bench.models("ck"):
        set_determinism(True)
        first, second = (_trained(bench.device, name) for _ in range(2))
        equal = all(torch.equal(a, b) for a, b in zip(first.values(), second.values()))
        deterministic = bench.step_row(name)
        set_determinism(False)
        fast = bench.step_row(name)
        yield {
            **{key: fast[key] for key in ("model", "layout", "batch", "precision")}, "equal_bits": equal,
            "ms_per_step_deterministic": deterministic["ms_per_step"], "ms_per_step": fast["ms_per_step"],
        }  # fmt: skip


def _trained(device: torch.device, name: str) -> dict[str, Tensor]:
    trainer = Bench(device, tiny=True).trainer(name, LAYOUT)
    _train(trainer, name, STEPS)
    return trainer.model.state_dict()


def _train(trainer: Trainer, name: str, number: int) -> None:
    step = steps(trainer, name, LAYOUT)
    for _ in range(number):
        step()
