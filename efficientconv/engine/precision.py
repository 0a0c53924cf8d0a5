"""Device and number format."""

from __future__ import annotations

import torch

from efficientconv.errors import UserError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """auto takes a GPU where there is one. Raises UserError when cuda is asked for and there is none."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("trainer.device=cuda, but torch finds no CUDA device; set it to cpu or auto")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of a forward pass in fp32, bf16 or fp16."""
    return torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=precision in _DTYPES)


def grad_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Scales the loss where fp16 gradients would vanish; does nothing in the other formats."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
