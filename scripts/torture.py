"""Kills training runs again and again, starts each with the same command, and compares the results with unbroken runs.

    python scripts/torture.py --kills 50                      writes results/reliability.md
    python scripts/torture.py --kills 4 --models c --output-dir outputs/reliability

Kills (SIGKILL) come in turn at a random moment inside training steps, during the writing of a checkpoint, and during the
evaluation of the held-out images. Weights, moving average, metrics.jsonl and summary.json must be bitwise the same, except
for times.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from checkout import ROOT
from efficientconv.arguments import positive
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals

# with accumulation, with a moving average, with both, with neither
VARIANTS = {
    "a": ("trainer.accumulation_steps=2",),
    "c": ("trainer.ema_decay=0.9",),
    "f": ("trainer.ema_decay=0.9", "trainer.accumulation_steps=2"),
    "k": (),
}


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("--kills", type=positive, default=50, help="kills of all models together (default: 50)")
    parser.add_argument("--epochs", type=positive, default=4, help="epochs of each run (default: 4)")
    parser.add_argument("--models", default=",".join(VARIANTS), help="some of a,c,f,k (default: all)")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "results", help="folder of the page (default: results)")
    return parser.parse_args()


if __name__ == "__main__":
    leave_on_signals()
    parse_args()  # a mistake and --help are answered now: the imports take seconds

import torch
from tqdm import tqdm

from efficientconv.arguments import require_writable
from efficientconv.engine.checkpoint import load_newest
from efficientconv.engine.epoch_log import read_records
from efficientconv.errors import UserError, did_you_mean
from efficientconv.info import environment
from efficientconv.results.pages import page
from efficientconv.results.table import Column, Table

STEPS_PER_EPOCH, KILLS_A_RUN = 20, 5
COMMON = (
    "data=digits", "model.width=0.125", "trainer.global_batch_size=64", "schedule=onecycle", "logger=jsonl",
    "trainer.checkpoint_minutes=0.001",
)  # fmt: skip
PHASES = ("step", "save", "evaluation")
TIMINGS = {
    "train_seconds", "images_per_s", "data_wait_percent", "train_images_per_s", "ms_per_image", "limit_share", "binds",
    "git_commit", "git_dirty",
}  # fmt: skip


@dataclass
class Outcome:
    """The outcome of a killed run: the kills by phase, and the differences from the unbroken run."""

    model: str
    options: str
    seed: int
    kills: Counter = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def main() -> None:
    args = parse_args()
    require_writable(args.output_dir)
    models = args.models.split(",")
    for model in models:
        if model not in VARIANTS:
            raise UserError(f"unknown model '{model}': {did_you_mean(model, VARIANTS)}")
    kills_a_run = min(KILLS_A_RUN, -(-args.kills // len(models)))
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch, tqdm(total=args.kills, unit="kill") as bar:
        seed = 0
        while bar.n < args.kills:
            model = models[seed % len(models)]
            outcomes.append(torture(model, seed, args.epochs, min(kills_a_run, args.kills - bar.n), Path(scratch), bar))
            seed += 1
    text = report(outcomes, args.kills, args.epochs)
    (args.output_dir / "reliability.md").write_text(text)
    print(text)
    sys.exit(any(outcome.differences for outcome in outcomes))


def torture(model: str, seed: int, epochs: int, kills: int, scratch: Path, bar: tqdm) -> Outcome:
    """Trains one unbroken run and one run that is killed `kills` times, and compares them."""
    outcome = Outcome(model, " ".join(VARIANTS[model]), seed)
    unbroken, broken = scratch / f"{model}{seed}-unbroken", scratch / f"{model}{seed}-broken"
    settings = (*COMMON, *VARIANTS[model], f"model={model}", f"seed={seed}", f"trainer.epochs={epochs}")
    with started(settings, unbroken) as process:
        assert process.wait() == 0
    chance, epoch_seconds = random.Random(seed), read_records(unbroken / "metrics.jsonl")[-1]["train_seconds"]
    for number in range(kills):
        phase, before = PHASES[(seed + number) % len(PHASES)], read_status(broken).get("pid")
        with started(settings, broken) as process:
            outcome.kills[phase] += kill_once(process, broken, before, phase, chance.uniform(0, epoch_seconds))
        bar.update()
    with started(settings, broken) as process:
        assert process.wait() == 0
    outcome.differences = differences(unbroken, broken)
    return outcome


@contextmanager
def started(settings: Sequence[str], folder: Path) -> Iterator[subprocess.Popen]:
    """Starts a run. The run ends with this process, also if this process is stopped."""
    call = [sys.executable, str(ROOT / "train.py"), *settings, f"run_dir={folder}"]
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kill_once(process: subprocess.Popen, folder: Path, before: int | None, phase: str, delay_s: float) -> bool:
    """Kills the run in `phase`, `delay_s` or more after it has taken over from process `before`. False: the run ended."""
    wait_until(process, lambda: read_status(folder).get("pid") != before)
    time.sleep(delay_s)
    if phase != "step":
        wait_until(process, (lambda: saving(folder)) if phase == "save" else (lambda: evaluating(folder)))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def wait_until(process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.0005)


def saving(folder: Path) -> bool:
    return any(folder.glob("checkpoints/*.tmp"))


def evaluating(folder: Path) -> bool:
    """Whether the run evaluates: all steps of the epoch are saved, and its record is not written yet."""
    step = newest_step(folder)
    return step > 0 and step % STEPS_PER_EPOCH == 0 and len(read_records(folder / "metrics.jsonl")) < step // STEPS_PER_EPOCH


def newest_step(folder: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in folder.glob("checkpoints/step-*.pt")), default=0)


def read_status(folder: Path) -> dict:
    path = folder / "status.json"
    return json.loads(path.read_text()) if path.exists() else {}


def differences(unbroken: Path, broken: Path) -> list[str]:
    """The parts that are not bitwise the same, except times."""
    states = [load_newest(folder / "checkpoints")[1] for folder in (unbroken, broken)]  # type: ignore[index]  # none is empty
    found = []
    for part in ("model", "ema"):
        old, new = (state[part] or {} for state in states)
        found += [f"{part} {name}" for name in old.keys() | new.keys() if not torch.equal(old[name], new[name])]
    for name, read in (("metrics.jsonl", read_records), ("summary.json", lambda path: [json.loads(path.read_text())])):
        old, new = ([untimed(record) for record in read(folder / name)] for folder in (unbroken, broken))
        found += [] if old == new else [name]
    return found


def untimed(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in TIMINGS}


def report(outcomes: list[Outcome], kills: int, epochs: int) -> str:
    facts = environment(torch.device("cpu"))
    equal = sum(not outcome.differences for outcome in outcomes)
    table = Table(outcomes, [
        Column("model"),
        Column("options", lambda outcome: outcome.options or "-"),
        Column("seed"),
        *(Column(f"killed in {title}", lambda outcome, phase=phase: outcome.kills[phase])
          for title, phase in zip(("a step", "a save", "an evaluation"), PHASES)),
        Column("lost or different", lambda outcome: ", ".join(outcome.differences) or "nothing"),
    ])  # fmt: skip
    return page(
        "# Killed runs against unbroken ones",
        f"Each run ({epochs} epochs of {STEPS_PER_EPOCH} steps on digits, width 0.125, a checkpoint every 60 ms) was killed "
        "with SIGKILL and started again by the same command, until it had been killed that often; then it was left to end. "
        "Compared bitwise with an unbroken run: weights, moving average, metrics.jsonl and summary.json (timings aside).",
        f"**{equal} of {len(outcomes)} runs ended bit for bit as the unbroken one.**",
        table.markdown(),
        f"Written by `python scripts/torture.py --kills {kills} --epochs {epochs}` at commit {facts['git_commit']} on "
        f"{facts['cpu']}, {facts['threads']} threads, torch {facts['packages']['torch']}.",
    )


if __name__ == "__main__":
    guarded(main)
