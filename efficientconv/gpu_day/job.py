"""Runs one stage in this process: python -m efficientconv.gpu_day.job <stage> <device> [tiny]

The process prints each row as soon as it is measured, so that a stage that is cut off or crashes keeps its earlier rows.
"""

from __future__ import annotations

import json
import sys

from efficientconv.signals import guarded, leave_on_signals

if __name__ == "__main__":
    leave_on_signals()  # now: the imports take seconds

from efficientconv.engine.device import choose_device, set_determinism, set_tf32
from efficientconv.gpu_day.bench import Bench
from efficientconv.gpu_day.stages import BY_NAME
from efficientconv.info import environment


def main() -> None:
    name, device, *tiny = sys.argv[1:]
    bench = Bench(choose_device(device), bool(tiny))
    set_determinism(False)  # as in training: torch tries which convolution is fastest
    set_tf32(True)  # as in training, also for matrix products
    print(json.dumps(environment(bench.device)), flush=True)
    for row in BY_NAME[name].measure(bench):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    guarded(main)
