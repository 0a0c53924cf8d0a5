"""Peaks of machines, and the share of the peaks that kernels reach, guessed until scripts/gpu_day.py measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from efficientconv.roofline.work import KINDS

# Tensor cores compute these kinds. All other kinds run on the plain cores, in float32.
TENSOR_KINDS = ("convolution", "product")


@dataclass(frozen=True)
class Share:
    """Shares of the peaks, in 0..1."""

    flops: float = 1.0
    bytes: float = 1.0


# The shares that cuDNN usually reaches [guessed, not measured].
GUESSED = {kind: Share(1, 0.85) for kind in KINDS} | {
    "convolution": Share(0.55, 0.8), "product": Share(0.6, 0.8), "batch_norm": Share(1, 0.75), "pool": Share(1, 0.5),
    "depthwise": Share(0.3, 0.5), "depthwise_weights": Share(0.2, 0.25), "transposed": Share(0.3, 0.5),
}  # fmt: skip
ALL_OF_IT = {kind: Share() for kind in KINDS}


@dataclass(frozen=True)
class Machine:
    """Data sheets' figures. `tensor_flops`: FLOP/s of convolutions and products by precision; `core_flops`: of the rest."""

    name: str
    tensor_flops: Mapping[str, float]
    core_flops: float
    bytes_per_s: float
    kernel_s: float = 2e-6  # the shortest time of a kernel [guessed]
    launch_s: float = 10e-6  # the host's time to launch an operation, forward or backward [guessed]

    def flops_per_s(self, kind: str, precision: str) -> float:
        return self.tensor_flops[precision] if kind in TENSOR_KINDS else self.core_flops


def _nvidia(name: str, bf16: float, tf32: float, cores: float, memory: float) -> Machine:
    """The arguments are in TFLOP/s without sparsity, and in TB/s."""
    return Machine(name, {"bf16": bf16 * 1e12, "fp16": bf16 * 1e12, "fp32": tf32 * 1e12}, cores * 1e12, memory * 1e12)


MACHINES = {
    "h200": _nvidia("NVIDIA H200", 989, 494, 67, 4.8),
    "h100": _nvidia("NVIDIA H100 SXM", 989, 494, 67, 3.35),
    "a100": _nvidia("NVIDIA A100 SXM 80 GB", 312, 156, 19.5, 2.0),
    "rtx4090": _nvidia("NVIDIA GeForce RTX 4090", 165, 82, 82, 1.0),
}


def machine_of(device: str) -> str | None:
    """The name in MACHINES that is part of a device's name (as torch gives it, or of a folder); None: no such name."""
    plain = "".join(filter(str.isalnum, device.lower()))
    return next((name for name in MACHINES if name in plain), None)
