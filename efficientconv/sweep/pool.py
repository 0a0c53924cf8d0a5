"""Runs one after the other or several at a time, each in a process of its own: a failing one harms no other.

What is done is skipped, so that a repeated or widened sweep does only what is new.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from efficientconv.config import RunConfig
from efficientconv.data import Images, fingerprint
from efficientconv.engine.continuation import found_data, refuse_other_images
from efficientconv.engine.run_folder import RunFolder, run_folder
from efficientconv.errors import UserError
from efficientconv.signals import Preempted
from efficientconv.sweep.child import Child
from efficientconv.sweep.outcome import Outcome, outcome_table, skipped, sweep_exit_code
from efficientconv.sweep.shares import shares
from efficientconv.sweep.signals import counted_signals

__all__ = ["Outcome", "outcome_table", "plan", "run_jobs", "sweep_exit_code"]

POLL_S = 0.1


def run_jobs(
    configs: Sequence[RunConfig],
    jobs: int = 1,
    log: Callable[[str], None] = tqdm.write,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Trains what is not done yet, `jobs` at a time, and says how each distinct run ended, in the order of `configs`.

    A run's output is in log.txt of its folder; of one at a time it is shown too. After SIGINT, SIGTERM or SIGUSR1 the
    runs save their state and end `preempted`, as do those not started; a second signal ends them at once.

    Args:
        ended: called with each run that was started, as soon as it has ended.
    Raises:
        UserError: before anything is started, when a run's folder cannot be made or is another run's.
    """
    folders = plan(configs)
    waiting = [folder for folder in folders if folder.summary() is None]
    if len(waiting) < len(folders):
        log(f"{len(folders) - len(waiting)} of {len(folders)} runs were done already")
    pool = Pool(waiting, min(jobs, len(waiting)), log, ended)
    pool.run()
    return list(({folder.path: skipped(folder.path) for folder in folders} | pool.outcomes).values())


def plan(configs: Sequence[RunConfig]) -> list[RunFolder]:
    """The folders of the distinct runs, each with its configuration in it: frozen, whatever is edited meanwhile."""
    folders, images = {}, {}
    for config in configs:
        place = config.data.model_dump_json()
        if place not in images:
            images[place] = _images(config)
        folder = run_folder(config, images[place])
        folder.check(config)
        if folder.summary() is None:
            folder.prepare(config)
        elif images[place] is not None:
            refuse_other_images(folder, config, images[place])
        folders[folder.path] = folder
    return list(folders.values())


def _images(config: RunConfig) -> Images | None:
    """None, too, where they are missing or amiss: that run's own start will say so, and harm no other."""
    try:
        found = found_data(config)
    except UserError:
        return None
    return None if found is None else fingerprint(found, config.data)


class Pool:
    """The runs that wait, those that run, by the share of the machine that they have, and how the others ended."""

    def __init__(
        self, folders: Sequence[RunFolder], jobs: int, log: Callable[[str], None], ended: Callable[[Outcome], None]
    ):
        self.waiting = deque(folder.path for folder in folders)
        self.total, self.live, self.log, self.ended = len(folders), jobs == 1, log, ended
        self.shares = dict(enumerate(shares(jobs)))
        self.running: dict[int, Child] = {}
        self.outcomes: dict[Path, Outcome] = {}
        self.obeyed = 0  # signals

    def run(self) -> None:
        with counted_signals() as signals, tqdm(total=self.total, unit="run", disable=True if self.live else None) as bar:
            while self.waiting or self.running:
                if signals.total() > self.obeyed:
                    self._stop(signals.total())
                self._start()
                time.sleep(POLL_S)
                self._collect(bar)
                bar.refresh()  # the time left

    def _start(self) -> None:
        for slot, share in self.shares.items():
            if self.waiting and slot not in self.running:
                folder = self.waiting.popleft()
                if self.live:
                    self.log(f"[{len(self.outcomes) + 1}/{self.total}] {folder}")
                self.running[slot] = Child(folder, share)

    def _collect(self, bar: tqdm) -> None:
        for slot, child in list(self.running.items()):
            ended = not child.running()  # asked before its last output is read
            if self.live:
                print(child.new_output(), end="", flush=True)
            if ended:
                outcome = child.outcome()
                self.outcomes[child.folder] = outcome
                del self.running[slot]
                self._report(outcome, child)
                self.ended(outcome)
                bar.update()

    def _report(self, outcome: Outcome, child: Child) -> None:
        reason = f": {outcome.reason}" if outcome.reason and not self.live else ""  # live, it was just shown
        self.log(f"[{len(self.outcomes)}/{self.total}] {child.folder.name} {outcome.state}, {outcome.seconds:.0f} s{reason}")
        error = child.error()
        if outcome.state == "failed" and error != outcome.reason and not self.live:
            self.log(f"{error}\n(all of it: {child.folder / 'log.txt'})")

    def _stop(self, signals: int) -> None:
        """Those that run save their state; those that wait are not started."""
        self.obeyed = signals
        for child in self.running.values():
            child.ask_to_end()
        for folder in self.waiting:
            self.outcomes[folder] = Outcome(folder, "preempted", Preempted.exit_code, 0.0, "not started")
        self.waiting.clear()
        self.log("stopped by a signal; the same command continues")
