"""The answer of a run to SIGTERM, SIGUSR1 and Ctrl-C: it finishes and saves the current step, then ends.

A second signal ends the run at once. Slurm and other schedulers send these signals before they take the machine away. The
same command continues the run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from efficientconv.signals import Preempted, answer, leave, require_unasked


class Preemption:
    """Turns the signals into `Preempted`, never inside a `shield`.

    Args:
        together: several processes train together and must end after the same step. Nothing is raised here: the processes
            tell each other whether a signal is `pending`.
    """

    def __init__(self, together: bool = False):
        self.together = together
        self.pending = False
        self._raised = False
        self._shields = 0

    def install(self) -> None:
        answer(self._handle)
        require_unasked()

    def ask(self) -> None:
        """Asks the run to end, from any thread, as a signal does. Does nothing if a signal has come already."""
        if not self.pending:
            if sys.platform == "win32":  # kill() on Windows ends the process at once
                signal.raise_signal(signal.SIGTERM)
            else:
                os.kill(os.getpid(), signal.SIGTERM)

    @contextmanager
    def shield(self) -> Iterator[None]:
        """A signal that comes inside takes effect at the end."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        self._raise_if_due()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            leave(number, frame)  # a second signal: no clean-up is needed, as saved files are whole at every moment
        self.pending = True
        self._raise_if_due()

    def _raise_if_due(self) -> None:
        if self.pending and not (self._raised or self.together or self._shields):
            self._raised = True  # only once: the state is saved in a shield on the way out, too
            raise Preempted
