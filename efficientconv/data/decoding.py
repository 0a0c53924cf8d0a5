"""The worker processes, the tasks that they get, and the batches that come from them."""

from __future__ import annotations

import atexit
import itertools
from collections.abc import Iterator
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from efficientconv.data.capacity import capacity
from efficientconv.data.frames import Frames
from efficientconv.data.ring import Ring, slot_bytes
from efficientconv.data.transfer import to_gpu_ahead
from efficientconv.data.workshop import Made, Task, Workshop
from efficientconv.errors import UserError
from efficientconv.signals import ignore_signals


class Pass:
    """The sampler of a loader: numbers its tasks' slots in turn. `batches` is set before each pass."""

    def __init__(self, slots: int):
        self.slots = slots
        self.batches: Iterator[tuple] = iter(())

    def __iter__(self) -> Iterator[Task]:
        for slot, batch in zip(itertools.cycle(range(self.slots)), self.batches):
            yield Task(slot, *batch)


class Decoding:
    """The workers, and the batches that come from them: `batches` in a pass, of up to `batch_size` images."""

    def __init__(
        self, frames: Frames, batch_size: int, batches: int, workers: int | None, device: torch.device
    ):
        self.device = device
        self.capacity = capacity(workers, slot_bytes(batch_size, frames.size), batches)
        self.ring = Ring(self.capacity.slots, batch_size, frames.size, device)
        self._pass, workers = Pass(self.ring.slots), self.capacity.workers
        self._loader = DataLoader(
            Workshop(frames, self.ring),
            sampler=self._pass,
            batch_size=None,  # a task is a batch
            collate_fn=_as_it_is,
            num_workers=workers,
            prefetch_factor=self.capacity.ahead or None,
            persistent_workers=workers > 0,
            worker_init_fn=_leave_signals_to_the_parent,
            multiprocessing_context="fork" if workers else None,  # the ring passes by fork
            generator=torch.Generator(),  # else each pass would draw from the global one, and a resumed run draw otherwise
        )

    def run(self, batches: Iterator[tuple]) -> Iterator[tuple[Made, Tensor]]:
        """(what a worker answered, its frames on the device, B x 3 x F x F), of `batches` as Task has them, in order.

        The frames are the ring's own on a CPU, and are overwritten after the next batch was asked for.
        """
        self._pass.batches = batches
        made = self._made()
        for answer, frames in to_gpu_ahead(made, self.device) if self.device.type == "cuda" else made:
            yield answer, frames.permute(0, 3, 1, 2)

    def _made(self) -> Iterator[tuple[Made, Tensor]]:
        answers = iter(self._loader)
        _end_before_exit(self._loader)
        for made in answers:
            if isinstance(made, UserError):
                raise UserError(str(made))  # a new one: it must not hold the frame that holds the loader that holds it
            yield made, self.ring.frames[made.task.slot, : len(made.labels)]

    def __str__(self) -> str:
        return f"{self.capacity}{', page-locked for the GPU' if self.device.type == 'cuda' else ''}"


_LOADERS: WeakSet[DataLoader] = WeakSet()


def _end_before_exit(loader: DataLoader) -> None:
    """Whatever ends the process, its workers are asked to end first: torch waits, then sends them a signal that they ignore.

    What is registered last is called first, so that this comes before torch's own, which was registered with the workers.
    """
    _LOADERS.add(loader)
    atexit.unregister(_end_workers)
    atexit.register(_end_workers)


def _end_workers() -> None:
    for loader in _LOADERS:
        workers = loader._iterator  # torch has no public name for it
        if workers is not None:
            workers._shutdown_workers()


def _leave_signals_to_the_parent(worker: int) -> None:
    ignore_signals()


def _as_it_is(made: Made | UserError) -> Made | UserError:
    return made
