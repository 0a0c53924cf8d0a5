"""One run in a process of its own, as the frozen config.yaml of its folder says.

    python -m efficientconv.sweep.job RUN_FOLDER

Exit codes and one-line errors are those of train.py; Hydra has no part in it.
"""

from __future__ import annotations

import argparse
import os
import threading
from pathlib import Path

from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()  # now: the imports take seconds

from efficientconv.config import RunConfig
from efficientconv.engine.guard import guarded
from efficientconv.engine.preemption import Preemption
from efficientconv.engine.run import train
from efficientconv.engine.run_folder import RunFolder


def main() -> None:
    args = parse_args()
    preemption = Preemption()
    preemption.install()
    if args.until_stdin_ends:
        threading.Thread(target=_follow_stdin, args=(preemption,), daemon=True).start()
    train(frozen_config(args.folder), preemption, with_test=not args.without_test)


def frozen_config(folder: Path) -> RunConfig:
    """Of the run that lies there, wherever that is by now. Raises UserError when the folder holds no run."""
    return RunFolder(folder).config().model_copy(update={"run_dir": str(folder)})


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument(
        "--until-stdin-ends", action="store_true", help="save and leave (75) then, which is also when the parent dies"
    )
    parser.add_argument("--without-test", action="store_true", help="stop before the look at the test images")
    return parser.parse_args()


def _follow_stdin(preemption: Preemption) -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock this thread would hold at the interpreter's end
        pass
    preemption.ask()


if __name__ == "__main__":
    guarded(main)
