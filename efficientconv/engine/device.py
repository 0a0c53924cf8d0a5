"""The device of a run, its memory, the number format, and determinism."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from efficientconv.config import TrainerConfig
from efficientconv.errors import UserError
from efficientconv.layers.backend import multiplies_bfloat16

DEVICES = ("auto", "cpu", "cuda")
NO_CUDA, NO_GPU = "this torch was built without CUDA", "torch finds no CUDA device"
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 1 << 30  # bytes; larger blocks are given back
KEPT_AT_MOST = (1 << 31) - 1  # bytes, at the end of the heap


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device `name`: cpu, cuda or auto, with one GPU for each process. auto warns of a GPU that torch cannot use.

    Raises UserError for another name, if `name` is cuda and torch can use no GPU, or if there are more processes than GPUs.
    """
    if name not in DEVICES:
        raise UserError(f"device='{name}' must be one of {', '.join(DEVICES)}")
    if name == "cpu":
        return torch.device("cpu")
    if obstacle := _gpu_obstacle(local_rank):
        if name == "cuda":
            raise UserError(f"device=cuda, but {obstacle}; set it to cpu or auto")
        if obstacle not in (NO_CUDA, NO_GPU):
            warnings.warn(f"this runs on the CPU: {obstacle}", stacklevel=2)
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(f"process {local_rank} has no GPU: there are {torch.cuda.device_count()}; start as many processes")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def device_name(device: torch.device) -> str:
    """cpu, or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def device_of_training(device: torch.device) -> str:
    """The device's name, with a hint to torchrun if the machine has further GPUs."""
    name, gpus = device_name(device), torch.cuda.device_count() if device.type == "cuda" else 0
    alone = "LOCAL_RANK" not in os.environ and gpus > 1
    return f"{name} (1 of {gpus}: torchrun --nproc_per_node={gpus} takes all)" if alone else name


def _gpu_obstacle(local_rank: int) -> str | None:
    """Why torch cannot use a GPU in this process; None if it can."""
    if not (torch.version.cuda or torch.version.hip):
        return NO_CUDA
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "CUDA_VISIBLE_DEVICES is empty and hides every GPU"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if not torch.cuda.is_available():  # a warning tells of a driver that is too old for this torch
            return f"torch cannot start CUDA ({str(told[0].message).splitlines()[0]})" if told else NO_GPU
        if local_rank >= torch.cuda.device_count():
            return None
        capability = torch.cuda.get_device_capability(local_rank)
    oldest = min((_capability(arch) for arch in torch.cuda.get_arch_list()), default=capability)
    if capability < oldest:
        has, needs = (".".join(map(str, numbers)) for numbers in (capability, oldest))
        return f"the GPU is too old for this torch (compute capability {has}, it needs {needs})"
    return None


def _capability(arch: str) -> tuple[int, int]:
    """(9, 0) for sm_90, (12, 0) for compute_120."""
    digits = "".join(filter(str.isdigit, arch))
    return int(digits[:-1]), int(digits[-1])


def set_tf32(allowed: bool) -> None:
    """Allows or forbids TF32: a GPU rounds factors of float32 convolutions and matrix products to 10 bits of mantissa."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def warn_of_slow_format(device: torch.device, precision: str) -> None:
    if device.type == "cpu" and precision == "fp16":
        warnings.warn("fp16 on a CPU was measured to be 13 times slower than fp32; set trainer.precision=fp32", stacklevel=2)
    if device.type == "cpu" and precision == "bf16" and not multiplies_bfloat16():
        warnings.warn(
            "this processor has no instructions for bfloat16, so that bf16 is slower than fp32; set trainer.precision=fp32",
            stacklevel=2,
        )


def set_determinism(deterministic: bool) -> None:
    """Chooses bitwise equal runs (same machine, same number of threads), or the fastest kernels."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of a forward pass in fp32, bf16 or fp16."""
    return torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=precision in _DTYPES)


def grad_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Scales the loss where fp16 gradients would vanish; does nothing in the other formats."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def keep_freed_memory(device: torch.device) -> None:
    """Makes the C library keep memory that a step has freed, for the next step, as long as this process runs.

    Without this the C library gives blocks of more than 32 MB back to the system, and gets fresh pages for them in the next
    step, each by a page fault. Feature maps of ImageNet's images are larger than that. Does nothing for a GPU, without
    glibc, or if the environment has settings of malloc.
    """
    if device.type != "cpu" or any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
    mallopt(M_TRIM_THRESHOLD, KEPT_AT_MOST)


@contextmanager
def batch_that_fits_named(config: TrainerConfig, processes: int) -> Iterator[None]:
    """If a run has no GPU memory left, raises a UserError that names the next smaller batch that divides evenly.

    Raises one, too, for a pass over one image whose last maps are one pixel: batch norm needs two values.
    """
    share = config.global_batch_size // processes  # images of a step in this process
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"batch norm needs two values a channel: {config.accumulation_steps} x {processes} passes of a step leave one "
            "image each, whose last map has one pixel; set trainer.global_batch_size to twice as much or more"
        ) from None
    except torch.OutOfMemoryError:
        smaller = (passes for passes in range(config.accumulation_steps + 1, share + 1) if share % passes == 0)
        passes = next(smaller, None)
        advice = "no smaller batch exists" if passes is None else (
            f"try {share // passes}, in a run of its own with trainer.accumulation_steps={passes}"
        )  # fmt: skip
        raise UserError(
            f"the GPU's memory does not hold {share // config.accumulation_steps} images at a time: {advice}; this run's "
            "last checkpoint is kept, and the same command continues it where more memory is free"
        ) from None
