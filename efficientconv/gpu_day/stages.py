"""The stages in their order: the most valuable first, because the machine may be taken away at any moment.

The time limits are at least twice the times that were measured on an H100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from efficientconv.gpu_day import correctness, fused, operations, runs, training
from efficientconv.gpu_day.bench import Bench, Row


@dataclass(frozen=True)
class Stage:
    """`measure` yields rows with the same keys. It is cut off after `seconds`, which include the start of its process."""

    name: str
    seconds: int
    measure: Callable[[Bench], Iterator[Row]]
    about: str


STAGES = (
    Stage("against_cpu", 120, correctness.against_cpu, "a step in fp32, bf16 and fp16: what the CPU computes?"),
    Stage("whole_run", 120, runs.whole_run, "train.py from start to end, then all that is done with a run"),
    Stage("operations", 60, operations.operations, "bandwidth, products, each kind of operation in model C's shapes"),
    Stage("models", 100, training.models, "steps of a, c, f, i, k, m, h and l, eager"),
    Stage("small_images", 150, training.small_images, "the same for CIFAR's images: eager and CUDA graphs"),
    Stage("compiled", 190, training.compiled, "steps of c, a and k, compiled, then as CUDA graphs"),
    Stage("triton_layers", 60, fused.layers, "layers in Triton beside plain PyTorch: right, and how fast"),
    Stage("triton_models", 180, fused.models, "steps of c, k, m, i and l with them, as CUDA graphs and eager"),
    Stage("profiles", 60, training.profiles, "the kernels of a step of c and of k"),
    Stage("settings", 90, training.settings, "formats, moving average, mixing, accumulation, TF32, memory format"),
    Stage("twice", 60, correctness.twice, "determinism: equal bits, and what it costs"),
    Stage("inference", 60, runs.inference, "ms an image of a forward pass"),
    Stage("gpu_tests", 240, runs.gpu_tests, "tests/test_gpu.py"),
)
BY_NAME = {stage.name: stage for stage in STAGES}
