"""Sends runs to Weights & Biases, or writes a copy for TensorBoard.

    python scripts/track.py outputs/<run> outputs/<other>    sends the epochs that the W&B server does not have
    python scripts/track.py outputs/<run> --to tensorboard   writes event files into the run folder

The runs need not have been trained with this logger.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from checkout import ROOT
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals

if __name__ == "__main__":
    leave_on_signals(continues=True)


FOLLOWER = ROOT / "efficientconv" / "tracking" / "follower.py"


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, finished or not")
    parser.add_argument("--to", choices=("wandb", "tensorboard"), default="wandb", help="default: wandb")
    args = parser.parse_args()
    problems = [problem for run in args.runs if (problem := send(run, args.to))]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(2 if problems else 0)


def send(run: Path, logger: str) -> str:
    """Sends a run to the logger. Returns an error message, or "" if the logger has the whole run."""
    if not (run / "config.yaml").is_file():
        return f"{run} is no run folder: it has no config.yaml"
    done = subprocess.run(
        [sys.executable, FOLLOWER, logger, run], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"WANDB_MODE": "online"},
    )  # fmt: skip
    if done.returncode:
        return f"{run}: {done.stdout or f'exit code {done.returncode}'}; more in {run / f'{logger}.log'}"
    print(f"{run}: {done.stdout}")
    return ""


if __name__ == "__main__":
    guarded(main)
