"""The stages of the day, in order: what is worth most first, since the machine may be taken away at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from efficientconv.gpu_day import correctness, operations, runs, training
from efficientconv.gpu_day.bench import Bench, Row


@dataclass(frozen=True)
class Stage:
    """`measure` yields rows of the same keys. It is cut off after `seconds`, its process's start included."""

    name: str
    seconds: int
    measure: Callable[[Bench], Iterator[Row]]
    about: str


STAGES = (
    Stage("against_cpu", 60, correctness.against_cpu, "a step in fp32, bf16 and fp16: what the CPU computes?"),
    Stage("whole_run", 60, runs.whole_run, "train.py and eval.py from start to end"),
    Stage("operations", 40, operations.operations, "bandwidth, products, each kind of operation in model C's shapes"),
    Stage("models", 120, training.models, "steps of a, c, f, i, k, m, h and l, eager"),
    Stage("small_images", 60, training.small_images, "the same for CIFAR's images: eager and CUDA graphs"),
    Stage("compiled", 140, training.compiled, "steps of c, a and k, compiled, then as CUDA graphs"),
    Stage("profiles", 30, training.profiles, "the kernels of a step of c and of k"),
    Stage("settings", 50, training.settings, "formats, moving average, mixing, accumulation, TF32, memory format"),
    Stage("twice", 40, correctness.twice, "determinism: equal bits, and what it costs"),
    Stage("inference", 40, runs.inference, "ms an image of a forward pass"),
    Stage("gpu_tests", 240, runs.gpu_tests, "tests/test_gpu.py"),
)
BY_NAME = {stage.name: stage for stage in STAGES}
