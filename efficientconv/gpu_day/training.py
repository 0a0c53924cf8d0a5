"""Training steps: the models of every layer, compiled and as CUDA graphs, and each setting on and off."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch

from efficientconv.data.augment import Mixing
from efficientconv.engine.device import set_tf32
from efficientconv.gpu_day.bench import Bench, Row, pixels, steps
from efficientconv.roofline.work import Work

KERNELS = 15  # the number of kernels in a profile, the longest first
SETTING_KEYS = ("model", "layout", "batch", "precision", "ms_per_step", "ms_low", "ms_high", "peak_mb")
NUM_IMAGES = 4096  # the images from which mixing draws


def models(bench: Bench) -> Iterator[Row]:
    """Eager steps. f and h have the same cost, by topology and by groups."""
    for name in bench.models("acfikmhl"):
        yield bench.step_row(name)
        give_back()


def compiled(bench: Bench) -> Iterator[Row]:
    """The most important rows come first: a stage that is cut off keeps its rows."""
    orders = [("c", "default"), ("a", "default"), ("c", "reduce-overhead"), ("k", "default"), ("a", "reduce-overhead")]
    for name, mode in orders[:1] if bench.tiny else orders:
        yield bench.step_row(name, compile=True, compile_mode=mode)
        give_back()


def small_images(bench: Bench) -> Iterator[Row]:
    """Steps on CIFAR's images, where the host is the limit: eager and CUDA graphs. The slowest compilation comes last."""
    graphs = {"compile": True, "compile_mode": "reduce-overhead"}
    orders = [("c", {}), ("a", {}), ("c", graphs), ("a", graphs), ("k", {}), ("k", graphs)]
    for name, changed in orders[:1] if bench.tiny else orders:
        yield bench.step_row(name, layout="cifar", **changed)
        give_back()


def settings(bench: Bench) -> Iterator[Row]:
    """Steps of C, each with one setting changed."""
    changes: dict[str, dict] = {
        "as it comes": {}, "contiguous maps": {"channels_last": False}, "two passes a step": {"accumulation_steps": 2},
        "moving average of the weights": {"ema_decay": 0.999}, "fp16": {"precision": "fp16"},
        "fp32 with TF32": {"precision": "fp32"}, "fp32 without TF32": {"precision": "fp32", "tf32": False},
    }  # fmt: skip
    for name, changed in changes.items():
        set_tf32(changed.get("tf32", True))
        row = bench.step_row("c", **changed)
        yield {"setting": name, **{key: row[key] for key in SETTING_KEYS}}
        give_back()
    yield _mixing(bench)


def _mixing(bench: Bench) -> Row:
    """The time of mixup and cutmix of a batch alone."""
    mixing = Mixing(0.2, 1.0, num_classes=10)
    draws, indices = mixing.draws(0, 0, NUM_IMAGES), torch.arange(bench.batch).numpy()
    size = pixels("c", bench.layout)
    images = torch.zeros(bench.batch, 3, size, size, device=bench.device)
    labels = torch.zeros(bench.batch, dtype=torch.int64, device=bench.device)
    time = bench.spread(lambda: mixing(images, labels, draws, indices))
    ms = {"ms_per_step": 1e3 * time.median, "ms_low": 1e3 * time.low, "ms_high": 1e3 * time.high}
    alone = {"setting": "mixup and cutmix, alone", "batch": bench.batch, **ms}
    return {"setting": None} | dict.fromkeys(SETTING_KEYS) | alone


def least_mixing(batch: int) -> Work:
    """Each image is read once and written once, in float32."""
    return Work("elementwise", 0, 2 * 4 * batch * 3 * pixels("c", "imagenet") ** 2)


def profiles(bench: Bench) -> Iterator[Row]:
    """The kernels of a step and their times."""
    for name in bench.models("ck"):
        kernels = bench.kernels(steps(bench.trainer(name, bench.layout), name, bench.layout))
        whole_ms = sum(kernel.ms for kernel in kernels)
        for kernel in kernels[:KERNELS]:
            yield {
                "model": name, "kernel": kernel.name[:100], "calls": kernel.calls, "ms": kernel.ms,
                "percent": 100 * kernel.ms / whole_ms,
            }  # fmt: skip
        give_back()


def give_back() -> None:
    """Frees a model's memory before the next measurement. Compiled models are in reference cycles."""
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
