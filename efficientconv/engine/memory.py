"""Memory: on a CPU, what one step has freed serves the next; on a GPU, a batch that does not fit is told.

The C library gives blocks of more than 32 MB back to the system, and gets fresh pages for them in the next step, each by a
page fault. The maps of ImageNet's images are as large.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from efficientconv.config import TrainerConfig
from efficientconv.errors import UserError

# of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 1 << 30  # bytes; larger ones are given back
KEPT_AT_MOST = (1 << 31) - 1  # bytes, at the end of the heap


def keep_freed_memory(device: torch.device) -> None:
    """For this process. Does nothing for a GPU, without glibc, or where the environment says what is to be kept."""
    if device.type != "cpu" or any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
    mallopt(M_TRIM_THRESHOLD, KEPT_AT_MOST)


@contextmanager
def batch_that_fits_named(config: TrainerConfig) -> Iterator[None]:
    """A step that finds no memory on its GPU becomes a UserError with the batch to try. The last checkpoint stays."""
    try:
        yield
    except torch.OutOfMemoryError:
        batch, passes = config.global_batch_size, config.accumulation_steps
        raise UserError(
            f"the GPU's memory does not hold {batch // passes} images at a time (trainer.global_batch_size={batch}, "
            f"accumulation_steps={passes}): set trainer.accumulation_steps={2 * passes}, or trainer.global_batch_size="
            f"{max(1, batch // 2)} in a run of its own; what was saved is kept"
        ) from None
