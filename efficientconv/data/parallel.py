"""Work on many image files at once, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import parent_process
from threading import Thread
from typing import TypeVar

from efficientconv.errors import UserError
from efficientconv.signals import ignore_signals
from efficientconv.system import cores

CHUNK = 32  # images a task
CORES = "EFFICIENTCONV_CORES"  # of the environment: a process's share, where several runs divide the cores

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
