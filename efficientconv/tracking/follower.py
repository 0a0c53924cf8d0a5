"""Copies a run folder to a logger, in its own process, so that a logger cannot disturb the training.

    python follower.py wandb|tensorboard RUN [SETTINGS]     SETTINGS: those of the logger as JSON

A follower reads metrics.jsonl until its stdin has a line or ends (it ends when the training dies). Then the follower prints
where the copy is and ends with exit code 0, or prints what went wrong and ends with 1. All other output goes to <logger>.log
in the run folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # the folder of the package instead of this folder

from efficientconv.files import NO_LINK, wait_for_lock
from efficientconv.signals import SIGNALS
from efficientconv.tracking.run_files import NewRecords, one_line

POLL_S = 1.0
END_LIMIT_S = 25.0  # from the end of the training to the end of this process, at most


class Copy(Protocol):
    """A run's copy in one logger. Every method may raise anything."""

    def start(self) -> None: ...

    def add(self, record: dict) -> None:
        """An epoch's record. Each start gets all of them, from the first epoch on."""

    def finish(self) -> str:
        """Returns a line that says where the copy is. Raises if the copy is incomplete."""


def follow(copy: Copy, folder: Path, ended: threading.Event) -> str:
    """Copies all records, and returns the line of `finish`. Epochs that a continued run writes again are skipped."""
    records, epoch, last = NewRecords(folder / "metrics.jsonl"), 0, False
    copy.start()
    while not last:
        last = ended.wait(POLL_S)  # then the records written before the end are read once more
        for record in records.read():
            if record["epoch"] > epoch:
                copy.add(record)
                epoch = record["epoch"]
    return copy.finish()


def watch_training(ended: threading.Event, leave: Callable[[str, int], None]) -> None:
    """Sets `ended` when the training has ended. Ends this process if the copy takes too long after that."""
    sys.stdin.readline()
    ended.set()
    time.sleep(END_LIMIT_S)
    leave(f"not done {END_LIMIT_S:g} s after the training", 1)


def main() -> None:
    logger, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    settings = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    for number in SIGNALS:  # a scheduler may send signals to all processes of a job
        signal.signal(number, signal.SIG_IGN)
    report = os.dup(1)

    def leave(line: str, code: int) -> None:
        try:
            os.write(report, line.encode())
        finally:
            os._exit(code)  # skips W&B's exit hooks, which wait for the server

    ended = threading.Event()
    threading.Thread(target=watch_training, args=(ended, leave), daemon=True).start()
    try:
        _print_to(folder / f"{logger}.log")
        wait_for_lock(1)  # locks this file: the follower of a killed training may still run
        copy = import_module(f"efficientconv.tracking.{logger}_copy").Copy(folder, settings)
        leave(follow(copy, folder, ended), 0)
    except Exception as error:  # no server, a broken installation, a full disk: the training is told in one line
        try:
            traceback.print_exc()
        finally:  # even where the disk has no room for that
            leave(one_line(error), 1)


def _print_to(path: Path) -> None:
    """Sends all further output of this process and of the logger's processes to `path`."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINK, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)


if __name__ == "__main__":
    main()
