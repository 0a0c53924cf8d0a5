"""How a command ends: a user's mistake is one line, a signal is one line, a bug a traceback."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from efficientconv.errors import UserError
from efficientconv.signals import Preempted, answer, leave, leave_silently, stop
from efficientconv.text import printable


def guarded(action: Callable[[], object], show_traceback: bool = False) -> None:
    """Runs `action`; a mistake ends the process with the mistake's exit code, a signal with 75."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {printable(str(message))}", file=sys.stderr)
    answer(stop)
    afterwards = leave
    try:
        with _killed_workers_named():
            action()
    except UserError as error:
        if show_traceback:
            raise
        rank = os.environ.get("RANK", "0")
        print(f"{f'[rank {rank}] ' if rank != '0' else ''}error: {printable(str(error))}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except Preempted as stopped:
        afterwards = leave_silently
        print(stopped.line(), file=sys.stderr, flush=True)
        sys.exit(stopped.exit_code)
    finally:
        answer(afterwards)


@contextmanager
def _killed_workers_named() -> Iterator[None]:
    """torch tells of one by a RuntimeError, wherever the main process happens to be."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            "a decoding process was killed, most likely for want of memory: free some or lower data.workers; the same "
            "command continues the run"
        ) from error
