"""How many workers decode and how far ahead, from the cores and the memory that this process has."""

from __future__ import annotations

from dataclasses import dataclass

from efficientconv.data.parallel import cores_of_this_process, processes_of_this_machine
from efficientconv.errors import UserError
from efficientconv.system import available_memory, can_fork

BATCHES_AHEAD = 2  # of each worker: one under way, one done
MEMORY_SHARE = 0.25  # of what is free, for the batches of all processes of this machine


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
