"""Worker processes: each gets a task, makes the frames of its images, and leaves them in shared memory."""

from __future__ import annotations

import atexit
import itertools
import mmap
import weakref
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from efficientconv.data.damage import Damaged
from efficientconv.data.parallel import capacity
from efficientconv.data.sampling import Task
from efficientconv.data.transfer import to_gpu_ahead
from efficientconv.data.transforms import Transform
from efficientconv.errors import UserError
from efficientconv.signals import held_back, ignore_signals


class Frames(NamedTuple):
    """A batch before the device augments it."""

    task: Task
    images: Tensor  # uint8 B x 3 x F x F
    labels: Tensor  # int64 B
    damaged: Damaged


class Decoded(NamedTuple):
    """A worker's answer. It has arrays, not tensors, which torch would send through further shared memory."""

    slot: int  # of the ring: the place of the frames
    task: Task
    labels: np.ndarray  # int64 B
    damaged: Damaged


class DecodeDataset(Dataset):
    """(slot, task) -> Decoded, with the frames in the ring. Any worker can do any task with the same result.

    A UserError is returned, not raised: torch would put the worker's traceback into its message, and keep references that
    keep the other workers alive.
    """

    def __init__(self, transform: Transform, ring: Ring):
        self.transform, self.ring = transform, ring

    def __getitem__(self, slot_and_task: tuple[int, Task]) -> Decoded | UserError:
        slot, task = slot_and_task
        try:
            labels, damaged = self.transform.fill(self.ring.frames[slot].numpy(), task)
        except UserError as error:
            return error
        return Decoded(slot, task, labels, damaged)


class Ring:
    """`frames`: uint8 slots x B x size x size x 3. All workers write to this memory, and the main process reads it.

    Batch number n of an epoch lies in slot n % slots. The memory is anonymous and shared: workers get it by fork, no tensor
    goes through a queue, and the limit of /dev/shm (64 MB in a container) does not matter. Its pages are mapped once for a
    run, not once for each batch, which saves a third of the loader's time. Its size is fixed at the start.
    """

    def __init__(self, slots: int, batch_size: int, size: int, device: torch.device):
        """The memory is page-locked if `device` is a GPU, so that copies to the GPU need no work of the CPU."""
        self.slots = slots
        self.bytes = slots * slot_bytes(batch_size, size)
        memory = mmap.mmap(-1, self.bytes)
        self.frames: Tensor = torch.frombuffer(memory, dtype=torch.uint8).view(slots, batch_size, size, size, 3)
        if device.type == "cuda":
            self._lock_pages()

    def _lock_pages(self) -> None:
        address, cuda = self.frames.data_ptr(), torch.cuda.cudart()
        try:
            torch.cuda.check_error(cuda.cudaHostRegister(address, self.bytes, 0))
        except RuntimeError as error:
            raise UserError(
                f"CUDA cannot page-lock {self.bytes / 1e6:.0f} MB of memory for images ({str(error).splitlines()[0]}); set "
                "data.workers or trainer.global_batch_size lower"
            ) from None
        weakref.finalize(self, cuda.cudaHostUnregister, address).atexit = False  # not needed when the process ends


def slot_bytes(batch_size: int, size: int) -> int:
    return batch_size * size * size * 3


class TaskSampler:
    """The sampler of a loader: the tasks of one pass, each with the next slot of the ring. Set `tasks` before a pass."""

    def __init__(self, slots: int):
        self.slots = slots
        self.tasks: Iterator[Task] = iter(())

    def __iter__(self) -> Iterator[tuple[int, Task]]:
        yield from zip(itertools.cycle(range(self.slots)), self.tasks)


class DecodedImages:
    """Images in files, decoded by workers: `batches` batches in a pass, of up to `batch_size` images each."""

    def __init__(self, transform: Transform, batch_size: int, batches: int, workers: int | None, device: torch.device):
        self.device = device
        self.capacity = capacity(workers, slot_bytes(batch_size, transform.size), batches)
        self.ring = Ring(self.capacity.slots, batch_size, transform.size, device)
        self._sampler, workers = TaskSampler(self.ring.slots), self.capacity.workers
        self._loader = DataLoader(
            DecodeDataset(transform, self.ring),
            sampler=self._sampler,
            batch_size=None,  # a task is a batch
            collate_fn=lambda decoded: decoded,  # as it is: torch would make tensors of its arrays
            num_workers=workers,
            prefetch_factor=self.capacity.ahead or None,
            persistent_workers=workers > 0,
            worker_init_fn=lambda worker: ignore_signals(),  # the parent answers them
            multiprocessing_context="fork" if workers else None,  # the ring passes by fork
            generator=torch.Generator(),  # else each pass would change torch's global random state
        )

    def read(self, tasks: Iterator[Task]) -> Iterator[Frames]:
        """The frames of each task, in order. On a CPU the images lie in the ring: the next batches overwrite them."""
        self._sampler.tasks = tasks
        decoded = self._decoded()
        for answer, images in to_gpu_ahead(decoded, self.device) if self.device.type == "cuda" else decoded:
            labels = torch.from_numpy(answer.labels).to(self.device, non_blocking=True)
            yield Frames(answer.task, images.permute(0, 3, 1, 2), labels, answer.damaged)

    def _decoded(self) -> Iterator[tuple[Decoded, Tensor]]:
        with held_back():
            answers = iter(self._loader)
        _end_before_exit(self._loader)
        for answer in answers:
            if isinstance(answer, UserError):
                raise UserError(str(answer))  # a new error: the old one holds references to this loader
            yield answer, self.ring.frames[answer.slot, : len(answer.labels)]

    def __str__(self) -> str:
        return f"{self.capacity}{', page-locked for the GPU' if self.device.type == 'cuda' else ''}"


_LOADERS: weakref.WeakSet[DataLoader] = weakref.WeakSet()


def _end_before_exit(loader: DataLoader) -> None:
    """Asks the workers to end before the process ends, however it ends: torch alone would wait, and send an ignored signal.

    The function that is registered last runs first, so this one runs before torch's own, registered with the workers.
    """
    _LOADERS.add(loader)
    atexit.unregister(end_workers)
    atexit.register(end_workers)


def end_workers() -> None:
    """Ends the workers of all loaders in this process. A loader that is read again starts new ones."""
    for loader in _LOADERS:
        workers, loader._iterator = loader._iterator, None  # torch has no public name for it
        if isinstance(workers, _MultiProcessingDataLoaderIter):
            workers._shutdown_workers()
