"""Sends runs to Weights & Biases afterwards: all that its server does not have yet.

    python scripts/track.py RUN [RUN ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from checkout import ROOT
from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()

from efficientconv.engine.guard import guarded

FOLLOWER = ROOT / "efficientconv" / "engine" / "wandb_follower.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, finished or not")
    problems = [problem for run in parser.parse_args().runs if (problem := send(run))]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(2 if problems else 0)


def send(run: Path) -> str:
    """Returns what went wrong, nothing when W&B has it all."""
    if not (run / "config.yaml").is_file():
        return f"{run} is no run folder: it has no config.yaml"
    environment = os.environ | {"WANDB_MODE": "online"}
    done = subprocess.run(
        [sys.executable, FOLLOWER, run], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment
    )
    if done.returncode:
        return f"{run}: {done.stdout or f'exit code {done.returncode}'}; more in {run / 'wandb.log'}"
    state = json.loads((run / "wandb.json").read_text())
    print(f"{run}: {state['sent_epochs']} epochs at {state['url']}")
    return ""


if __name__ == "__main__":
    guarded(main)
