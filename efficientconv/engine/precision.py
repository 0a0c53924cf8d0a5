"""Device, number format and determinism."""

from __future__ import annotations

import os

import torch

from efficientconv.errors import UserError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """auto takes a GPU where there is one, process by process. Raises UserError when cuda is asked for and there is none."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("trainer.device=cuda, but torch finds no CUDA device; set it to cpu or auto")
    if not available or name == "cpu":
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(f"process {local_rank} has no GPU: there are {torch.cuda.device_count()}; start as many processes")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def set_determinism(deterministic: bool) -> None:
    """Bitwise equal runs on the same machine and number of threads, or the fastest kernels."""
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
