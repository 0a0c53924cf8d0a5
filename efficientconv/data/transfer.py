"""Copies frames from page-locked memory to a GPU, on a separate stream, one batch ahead of the computation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def to_gpu_ahead(batches: Iterator[tuple[T, Tensor]], device: torch.device) -> Iterator[tuple[T, Tensor]]:
    """(a worker's answer, its frames in page-locked memory) -> the same with the frames on `device`, in order.

    The copy of a batch runs during the step of the batch before it. When the next of `batches` is asked for, the copy has
    ended, and the memory of the frames can be used again.
    """
    stream = torch.cuda.Stream(device)
    waiting = None
    for made, frames in batches:
        with torch.cuda.stream(stream):
            copy = frames.to(device, non_blocking=True)
        copied = stream.record_event()
        if waiting is not None:
            yield _ready(*waiting)
        waiting = made, copy, copied
        if not copied.query():  # usually the step has taken longer than the copy
            copied.synchronize()
    if waiting is not None:
        yield _ready(*waiting)


def _ready(made: T, copy: Tensor, copied: torch.cuda.Event) -> tuple[T, Tensor]:
    """Makes the device's current stream wait for the copy."""
    stream = torch.cuda.current_stream(copy.device)
    stream.wait_event(copied)
    copy.record_stream(stream)  # its memory is not used again before this stream is done with it
    return made, copy
