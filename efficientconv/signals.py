"""How a command ends: a mistake of the user is one line, a signal is one line, a bug of ours is a traceback.

The signals are SIGTERM, SIGUSR1 and Ctrl-C. A command answers them at any moment, also while it imports: its first line is
`leave_on_signals()`, and until the command has begun something, a signal ends the process at once with exit code 75. Under
`guarded` a signal raises `Preempted`, so that the command can put away its files and processes. A run saves its step first
(engine/preemption.py). This file imports only small parts of the standard library, so that it is imported at once.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from efficientconv.errors import UserError
from efficientconv.text import printable

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))  # Windows: two


class Preempted(BaseException):
    """Not an Exception, so that nothing on its way takes it for a failure of its own. Its text says what becomes of it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later
    otherwise = "the same command begins anew"  # where it has no text; leave_on_signals says what is true of the command

    def line(self) -> str:
        return f"stopped by a signal; {str(self) or self.otherwise}"


def answer(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def leave_on_signals(continues: bool = False) -> None:
    """From here on a signal ends the process at once. Where Python takes itself down, it can no longer be told.

    continues: the same command goes on from where it was stopped.
    """
    if continues:
        Preempted.otherwise = "the same command continues"
    answer(leave)
    atexit.register(ignore_signals)  # registered first, called last


@contextmanager
def nothing_begun() -> Iterator[None]:
    """Around imports that take seconds: there is nothing to put away, so a signal ends the process at once."""
    answer(leave)
    yield
    answer(stop)


@contextmanager
def counted_signals() -> Iterator[Counter]:
    """For a process that has runs in other processes: counts the signals, so that it can ask the runs to end.

    Those that had a handler before get to it in the end: submitit requeues there.
    """
    counts: Counter = Counter()
    if threading.current_thread() is not threading.main_thread():
        yield counts  # signals are not this thread's to handle
        return
    before = {number: signal.signal(number, lambda number, _: counts.update([number])) for number in SIGNALS}
    try:
        yield counts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in counts:
        handler = before[number]
        if callable(handler) and handler not in (stop, signal.default_int_handler):
            handler(number, None)


@contextmanager
def left_at_once() -> Iterator[None]:
    """Around a call that may wait long without a return to Python, where handlers are run: a thread answers for it.

    Not on Windows, which wakes no such thread: there the signal is answered after the call.
    """
    if sys.platform == "win32":
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write)

    def wait() -> None:
        if os.read(read, 1):
            leave()

    watch = threading.Thread(target=wait, daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)  # the thread reads the end
        watch.join()
        os.close(read)


def leave(number: int = 0, frame: FrameType | None = None) -> None:
    os.write(2, f"{Preempted().line()}\n".encode())
    os._exit(Preempted.exit_code)


def leave_silently(number: int, frame: FrameType | None) -> None:
    """After the line was said."""
    os._exit(Preempted.exit_code)


def stop(number: int, frame: FrameType | None) -> None:
    """Asked a second time, it does not wait for what is put away."""
    answer(leave)
    raise Preempted


def ignore_signals() -> None:
    """In a worker: a terminal or a scheduler may send them to every process, and the parent alone answers."""
    answer(signal.SIG_IGN)


def guarded(action: Callable[[], object], show_traceback: bool = False) -> None:
    """Runs `action`; a mistake ends the process with the mistake's exit code, a signal with 75."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {printable(str(message))}", file=sys.stderr)
    answer(stop)
    afterwards: Callable[[int, FrameType | None], object] = leave
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
