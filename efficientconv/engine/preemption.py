"""SIGTERM, SIGUSR1 and Ctrl-C: the step under way is finished and saved, then the run ends; a second signal ends it at once.

Slurm and other schedulers send these before they take the machine away. The same command continues the run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from efficientconv.signals import Preempted, answer, leave


class Preemption:
    """Turns the signals into `Preempted`, never inside a `shield`.

    Args:
        together: several processes train together and must leave after the same step: nothing is raised here, they ask
            each other whether a signal is `pending`.
    """

    def __init__(self, together: bool = False):
        self.together = together
        self.pending = False
        self._raised = False
        self._shields = 0

    def install(self) -> None:
        answer(self._handle)

    def ask(self) -> None:
        """To end, as a signal does, from any thread; where a signal came already, nothing more."""
        if not self.pending:
            if sys.platform == "win32":  # whose kill() ends the process at once
                signal.raise_signal(signal.SIGTERM)
            else:
                os.kill(os.getpid(), signal.SIGTERM)

    @contextmanager
    def shield(self) -> Iterator[None]:
        """What is inside is done to its end: a signal that comes meanwhile takes effect after it."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        self._raise_if_due()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            leave(number, frame)  # asked twice: no clean-up; what is saved is whole at every moment
        self.pending = True
        self._raise_if_due()

    def _raise_if_due(self) -> None:
        if self.pending and not (self._raised or self.together or self._shields):
            self._raised = True  # once: what is saved on the way out is shielded too
            raise Preempted
