"""This process's share of the cores and memory, and work on many image files in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import TypeVar

from efficientconv.errors import UserError
from efficientconv.signals import held_back, ignore_signals
from efficientconv.system import available_memory, can_fork, cores

CHUNK = 32  # images a task
CORES = "EFFICIENTCONV_CORES"  # environment variable: a process's share of the cores, set by a sweep with several jobs
BATCHES_AHEAD = 2  # for each worker: one under way, one done
MEMORY_SHARE = 0.25  # share of the free memory, for the batches of all processes of this machine

R = TypeVar("R")


def available_cores() -> int:
    """The cores that this process may use, which can be fewer than the machine has."""
    return min(int(os.environ.get(CORES, cores())), cores())


def processes_of_this_machine() -> int:
    """The number of processes that torchrun started on this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def cores_of_this_process() -> int:
    """This process's share of the cores, at least one."""
    return max(1, available_cores() // processes_of_this_machine())


@dataclass(frozen=True)
class Capacity:
    """`workers` processes, each of which makes `ahead` batches in advance. With 0 workers this process makes the batches."""

    workers: int
    ahead: int
    batch_bytes: int

    @property
    def slots(self) -> int:
        """The number of batches in memory: those made in advance, and the one in use."""
        return self.workers * self.ahead + 1

    def __str__(self) -> str:
        memory = f"{self.slots * self.batch_bytes / 1e6:.0f} MB of memory for batches"
        if not self.workers:
            return f"decoded by the training process, {memory}"
        workers = "worker decodes" if self.workers == 1 else "workers decode"
        return f"{self.workers} {workers}, {self.ahead} batches ahead each, {memory}"


def capacity(workers: int | None, batch_bytes: int, batches: int, available_bytes: int | None = None) -> Capacity:
    """The capacity for a pass of `batches` batches of `batch_bytes`. Little memory means fewer batches ahead, or workers.

    Args:
        workers: the number that the user asked for; None: one for each core of this process. Without fork there are no
            workers, because they get the shared memory by fork.
        available_bytes: of memory; None: the free memory of the machine or container.
    Raises:
        UserError: the memory has no room for two batches.
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


def in_parallel(task: Callable[[list[str]], R], paths: list[str], workers: int | None = None) -> Generator[R, None, None]:
    """The results of `task` for each CHUNK of `paths`, in order. `workers`: processes; None: one for each core.

    The work is done by processes: a small image takes most of its time in PIL's Python code, which threads cannot run in
    parallel. The processes end with the generator: close it (contextlib.closing) if the loop can end early.
    """
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    most = cores_of_this_process() if workers is None else max(1, workers)
    pool = ProcessPoolExecutor(min(most, len(chunks)), initializer=follow_parent)
    try:
        with held_back():
            results = pool.map(task, chunks)
        yield from results
    except BrokenProcessPool:
        raise UserError(
            "a decoding worker was killed, probably because memory ran out: free some, or start this on fewer cores "
            "(taskset -c 0-3 python ...)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def follow_parent() -> None:
    """For a worker: ignores signals, which the parent answers, and ends when the parent is gone."""
    ignore_signals()
    Thread(target=_exit_after, args=(parent_process(),), daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
