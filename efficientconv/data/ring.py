"""Memory for a few batches of frames that all workers write to and the main process reads, used over and over.

Anonymous shared memory: it passes to the workers by fork, no tensor is sent through a queue, /dev/shm with its limit (64 MB
in a container) is not used, and as its pages are touched once a run, not once a batch, a third of the loader's time is
saved. What it takes is fixed at the start.
"""

from __future__ import annotations

import mmap
import weakref

import torch
from torch import Tensor


class Ring:
    """`frames`: uint8 slots x B x size x size x 3. Batch number n of an epoch lies in slot n % slots."""

    def __init__(self, slots: int, batch_size: int, size: int, device: torch.device):
        """Page-locked where `device` is a GPU, once: its copies then need no help of the CPU."""
        self.slots = slots
        self.bytes = slots * slot_bytes(batch_size, size)
        memory = mmap.mmap(-1, self.bytes)
        self.frames: Tensor = torch.frombuffer(memory, dtype=torch.uint8).view(slots, batch_size, size, size, 3)
        if device.type == "cuda":
            address, cuda = self.frames.data_ptr(), torch.cuda.cudart()
            torch.cuda.check_error(cuda.cudaHostRegister(address, self.bytes, 0))
            weakref.finalize(self, cuda.cudaHostUnregister, address).atexit = False  # the process's end does it too


def slot_bytes(batch_size: int, size: int) -> int:
    return batch_size * size * size * 3
