"""The stages in their order. The most valuable come first, because the machine may be taken away at any moment.

The time limits are at least twice the times that were measured on an H100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from efficientconv.gpu_day import correctness, fused, operations, runs, training
from efficientconv.gpu_day.bench import Bench, Row


@dataclass(frozen=True)
class Stage:
    """`measure` yields rows with the same keys. The stage is cut off after `seconds`, the start of its process included."""

    name: str
    seconds: int
    measure: Callable[[Bench], Iterator[Row]]
    about: str


STAGES = (
    Stage("against_cpu", 120, correctness.against_cpu, "does a step in fp32, bf16 and fp16 compute what the CPU computes?"),
    Stage("whole_run", 120, runs.whole_run, "train.py from start to end, then the other commands on its run"),
    Stage("operations", 60, operations.operations, "bandwidth, matrix products, each kind of operation in model C's shapes"),
    Stage("models", 100, training.models, "eager steps of models A, C, F, I, K, M, H and L"),
    Stage("small_images", 150, training.small_images, "steps on images of CIFAR's size, eager and as CUDA graphs"),
    Stage("compiled", 190, training.compiled, "steps of models C, A and K, compiled, then as CUDA graphs"),
    Stage("triton_layers", 60, fused.layers, "layers in Triton beside plain PyTorch: are they right, and how fast?"),
    Stage("triton_models", 180, fused.models, "steps of C, K, M, I and L with these layers, as CUDA graphs and eager"),
    Stage("profiles", 60, training.profiles, "the kernels of a step of model C and of model K"),
    Stage("settings", 90, training.settings, "the cost of formats, averaging, mixing, accumulation, TF32, memory order"),
    Stage("twice", 60, correctness.twice, "determinism: does a second run give equal bits, and what does that cost?"),
    Stage("inference", 60, runs.inference, "ms per image of a forward pass"),
    Stage("gpu_tests", 360, runs.gpu_tests, "tests/test_gpu.py"),
)
BY_NAME = {stage.name: stage for stage in STAGES}
