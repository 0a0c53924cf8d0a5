"""Signals to a process that has runs in other processes: it counts them, and asks the runs to end."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from efficientconv.signals import SIGNALS, stop


@contextmanager
def counted_signals() -> Iterator[Counter]:
    """Counts the signals that ask to end. Those that had a handler before get to it in the end: submitit requeues there."""
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
        if callable(before[number]) and before[number] not in (stop, signal.default_int_handler):
            before[number](number, None)
