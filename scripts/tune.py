"""Searches the setting with the best accuracy on held-out images: Optuna's TPE, with pruning of what is below the median.

    python scripts/tune.py 'optim.lr=tag(log,interval(0.05,1.0))' optim.weight_decay=1e-4,5e-4 model=a data=cifar10 \
        data.val_fraction=0.1 --trials 20 --study lr

Ranges are Hydra's: interval(low,high), tag(log,interval(low,high)), int(interval(low,high)), range(from,to,step), a,b,c.
The same command continues a search that was cut off; more --trials widen it. Writes <output_root>/tune/<study>/trials.csv.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import checkout  # noqa: F401  finds the package
from efficientconv.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals(continues=True)  # now: the imports take seconds

import optuna

from efficientconv.arguments import file_name, positive
from efficientconv.cli import compose
from efficientconv.config import RunConfig
from efficientconv.engine.configure import run_config
from efficientconv.engine.epoch_log import read_records
from efficientconv.engine.guard import guarded
from efficientconv.errors import UserError
from efficientconv.files import write_atomically
from efficientconv.results.table import Table
from efficientconv.sweep.ranges import split_ranges
from efficientconv.sweep.search import OBJECTIVE, Search

STATES = {"COMPLETE": "ok", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def main() -> None:
    args = parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fixed, ranges = split_ranges(args.overrides)

    def configure(overrides: list[str]) -> RunConfig:
        return run_config(compose("train", [*fixed, *overrides]))

    search = Search(Path(configure([]).output_root) / "tune" / args.study, ranges, configure)
    table = search.folder / "trials.csv"
    search.run(args.trials, after_each=lambda: write_atomically(table, csv_of(search).encode()))
    write_atomically(table, csv_of(search).encode())
    print(f"trials: {table}\n{best(search, fixed)}")


def best(search: Search, fixed: list[str]) -> str:
    """The trial with the highest accuracy, and the command that trains its setting."""
    counts = Counter(STATES[trial.state.name] for trial in search.study.trials)
    found = ", ".join(f"{number} {state}" for state, number in counts.items())
    if not counts["ok"]:
        raise UserError(f"no trial ended well ({found}); each says why in log.txt of its folder in {search.folder}")
    trial = search.study.best_trial
    settings = [f"{key}={value}" for key, value in trial.params.items()]
    return (
        f"best of {len(search.study.trials)} trials ({found}): trial {trial.number}, {OBJECTIVE} {trial.value:.2f}\n"
        f"python train.py {' '.join(map(quoted, [*fixed, *settings]))}"
    )


def quoted(override: str) -> str:
    return f"'{override}'" if set(override) & set(" ()[]{}*?$&;") else override


def csv_of(search: Search) -> str:
    """A row a trial: its state, held-out accuracy in the end, epochs, seconds of training, settings, run folder."""
    rows = []
    for trial in search.study.trials:
        records = read_records(search.run_of(trial).metrics_file) if "run" in trial.user_attrs else []
        rows.append({
            "trial": trial.number, "state": STATES[trial.state.name], OBJECTIVE: trial.value, "epochs": len(records),
            "train_seconds": round(sum(record["train_seconds"] for record in records), 1),
            **{key: trial.params.get(key) for key in search.ranges}, "run": trial.user_attrs.get("run"),
        })  # fmt: skip
    return Table.of(rows).csv()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", metavar="KEY=RANGE or KEY=VALUE", help="as of train.py, with ranges")
    parser.add_argument("--trials", type=positive, required=True, help="in all, those of earlier starts among them")
    parser.add_argument("--study", type=file_name, required=True, help="its name, and that of its folder")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    guarded(main)
