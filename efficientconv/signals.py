"""The end of a command: a mistake of the user gives one line, a signal gives one line, a bug of ours gives a traceback.

The signals are SIGTERM, SIGUSR1 and Ctrl-C. A command answers them at any moment, also while it imports, because its first
line is `leave_on_signals()`. Until the command has begun something, a signal ends the process at once with exit code 75.
Under `guarded` a signal raises `Preempted`, so that the command can put away its files and processes. A run saves its step
first (engine/preemption.py). If nobody reads the output any more, as with `| head`, a command ends silently. This file
imports only small parts of the standard library, so that it is imported at once.
"""

from __future__ import annotations

import atexit
import os
import select
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

UNREAD = 141  # exit code: 128 + SIGPIPE, as of other programs
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))  # Windows: two


class Preempted(BaseException):
    """A signal asked the command to end. Not an Exception, so that no `except Exception` catches it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later
    otherwise = "the same command begins anew"  # the text if there is none; leave_on_signals sets it for the command
    asked = False  # a signal came while `stop` answered

    def line(self) -> str:
        return f"stopped by a signal; {str(self) or self.otherwise}"


def answer(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def leave_on_signals(continues: bool = False) -> None:
    """From here on a signal ends the process at once. While Python shuts down, signals are ignored.

    continues: the same command continues from where it was stopped.
    """
    if continues:
        Preempted.otherwise = "the same command continues"
    answer(leave)
    _answer_pipe(signal.Handlers.SIG_DFL)
    atexit.register(ignore_signals)  # registered first, called last


@contextmanager
def nothing_begun() -> Iterator[None]:
    """For imports that take seconds: a signal ends the process at once, as there is nothing to save."""
    answer(leave)
    require_unasked()
    yield
    answer(stop)


@contextmanager
def counted_signals() -> Iterator[Counter]:
    """Counts the signals inside the block, for a process that must ask its child processes to end.

    At the end each signal also goes to the handler that was installed before: submitit requeues its job there.
    """
    counts: Counter = Counter()
    if threading.current_thread() is not threading.main_thread():
        yield counts  # only the main thread can handle signals
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
    """For a call that may wait long outside Python, where handlers cannot run: a thread answers signals meanwhile.

    Windows cannot wake such a thread: there the signal is answered after the call.
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
    """Ends the process without a line, which was printed before."""
    os._exit(Preempted.exit_code)


def stop(number: int, frame: FrameType | None) -> None:
    """Raises Preempted. A second signal ends the process at once."""
    Preempted.asked = True
    answer(leave)
    raise Preempted


def require_unasked() -> None:
    """Raises Preempted again if a library swallowed it: some libraries have a bare `except:` around an import."""
    if Preempted.asked:
        raise Preempted


@contextmanager
def held_back() -> Iterator[None]:
    """For the start of workers: a signal waits until the end, and in each worker until the worker ignores signals.

    A signal to all processes would otherwise kill a worker that has just been forked, and the parent would report that.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows: workers do not start as copies there
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals() -> None:
    """For a worker: a terminal or a scheduler may send signals to every process, but only the parent answers."""
    answer(signal.SIG_IGN)


def guarded(action: Callable[[], object], show_traceback: bool = False) -> None:
    """Runs `action`. A UserError ends the process with its exit code and one line, a signal with 75 and one line, and output
    that nobody reads with 141."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {printable(str(message))}", file=sys.stderr)
    answer(stop)
    _answer_pipe(signal.Handlers.SIG_IGN)  # else a worker that dies would end this process
    try:
        try:
            with _lacking_memory_named(), _renamed_signals_found():
                action()
            sys.stdout.flush()
        finally:
            answer(leave)  # within the outer try: a signal just before this line raises Preempted, which is answered below
    except UserError as error:
        if show_traceback:
            raise
        rank = os.environ.get("RANK", "0")
        print(f"{f'[rank {rank}] ' if rank != '0' else ''}error: {printable(str(error))}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        if not _output_is_unread():
            raise
        sys.exit(UNREAD)
    except Preempted as stopped:
        print(stopped.line(), file=sys.stderr, flush=True)
        answer(leave_silently)
        sys.exit(stopped.exit_code)
    finally:
        Preempted.asked = False


def _answer_pipe(handler: signal.Handlers) -> None:
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, handler)


def _output_is_unread() -> bool:
    """Whether nobody reads the output. If so, the rest of the output is dropped."""
    if not hasattr(select, "poll"):  # Windows
        return False
    poll = select.poll()
    poll.register(sys.stdout, select.POLLOUT)
    unread = any(event & select.POLLERR for _, event in poll.poll(0))
    if unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return unread


@contextmanager
def _renamed_signals_found() -> Iterator[None]:
    """A library may turn a signal that comes during its import into an error of its own: that becomes Preempted again."""
    try:
        yield
    except Exception:
        require_unasked()
        raise


@contextmanager
def _lacking_memory_named() -> Iterator[None]:
    """torch reports a full GPU and a killed worker by RuntimeErrors, at any place: they become UserErrors."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch is not imported here
            raise UserError("the GPU's memory is full: free some of it, or use the CPU") from error
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            "a decoding worker was killed, probably because memory ran out: free some or lower data.workers; the same "
            "command continues the run"
        ) from error
