"""What of the machine's cores and memory is this process's, and work on many image files at once, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import parent_process
from threading import Thread
from typing import TypeVar

from efficientconv.errors import UserError
from efficientconv.signals import ignore_signals
from efficientconv.system import available_memory, can_fork, cores

CHUNK = 32  # images a task
CORES = "EFFICIENTCONV_CORES"  # of the environment: a process's share, where several runs divide the cores
BATCHES_AHEAD = 2  # of each worker: one under way, one done
MEMORY_SHARE = 0.25  # of what is free, for the batches of all processes of this machine

R = TypeVar("R")


def available_cores() -> int:
    """The cores that this process may use, which can be fewer than the machine has."""
    return min(int(os.environ.get(CORES, cores())), cores())


def processes_of_this_machine() -> int:
    """Those that torchrun started here and that share its cores and memory; 1 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def cores_of_this_process() -> int:
    """Its part of the cores, at least one."""
    return max(1, available_cores() // processes_of_this_machine())


@dataclass(frozen=True)
class Capacity:
    """Batches made at a time by `workers` processes, `ahead` of each; 0 workers: this process makes them itself."""

    workers: int
    ahead: int
    batch_bytes: int

    @property
    def slots(self) -> int:
        """Batches in memory: those ahead, and the one in use."""
        return self.workers * self.ahead + 1

    def __str__(self) -> str:
        memory = f"{self.slots * self.batch_bytes / 1e6:.0f} MB of memory for batches"
        if not self.workers:
            return f"decoded by the training process, {memory}"
        return f"{self.workers} decoding processes, {self.ahead} batches ahead each, {memory}"


def capacity(workers: int | None, batch_bytes: int, batches: int, available_bytes: int | None = None) -> Capacity:
    """For `batches` of `batch_bytes` in a pass. Fewer batches ahead, then fewer workers, where memory is short.

    Args:
        workers: as many as asked for, if they fit; None: one a core, divided among the processes that share the machine.
            None at all where the system cannot fork: the memory that they share passes by it.
        available_bytes: of memory; None: what the machine or this container has left.
    Raises:
        UserError: not even the batch in use and one more fit.
    """
    workers = cores_of_this_process() if workers is None else workers
    if not workers or not can_fork():
        return Capacity(0, 0, batch_bytes)
    available_bytes = available_memory() if available_bytes is None else available_bytes
    ahead = int(available_bytes * MEMORY_SHARE / processes_of_this_machine() / batch_bytes) - 1
    if ahead < 1:
        raise UserError(
            f"a batch takes {batch_bytes / 1e6:.0f} MB, too much for the {available_bytes / 1e6:.0f} MB of memory that are "
            "left: raise trainer.accumulation_steps, which divides it, or free memory"
        )
    workers = min(workers, ahead, max(1, batches))
    return Capacity(workers, min(BATCHES_AHEAD, ahead // workers), batch_bytes)


def in_parallel(task: Callable[[list[str]], R], paths: list[str]) -> Iterator[R]:
    """`task` of each CHUNK of `paths`, in their order.

    Processes, as most of a small image's time goes to PIL's Python code, which threads can't run side by side. They end
    with the iterator: close it (contextlib.closing) where the loop over it can be left early.
    """
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    pool = ProcessPoolExecutor(min(available_cores(), len(chunks)), initializer=follow_parent)
    try:
        yield from pool.map(task, chunks)
    except BrokenProcessPool:
        raise UserError(
            "a decoding process was killed, most likely for want of memory: free some, or start this on fewer cores "
            "(taskset -c 0-3 python ...)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def follow_parent() -> None:
    """Signals are the parent's to answer. A killed parent leaves nobody behind."""
    ignore_signals()
    Thread(target=_exit_after, args=(parent_process(),), daemon=True).start()


def _exit_after(parent) -> None:
    parent.join()
    os._exit(1)
