r"""Searches the settings with the best accuracy on held-out images, by Optuna's TPE. Trials below the median end early.

    python scripts/tune.py 'optim.lr=tag(log,interval(0.05,1.0))' \
            optim.weight_decay=1e-4,5e-4 model=a data=cifar10 \
            data.val_fraction=0.1 --trials 20 --study lr

Ranges: interval(low,high), tag(log,interval(low,high)), int(interval(low,high)), range(from,to,step), a,b,c.
The same command continues a search that was cut off. A larger --trials extends a search. The trials and trials.csv lie
in <output_root>/tune/<study>/. With --jobs 2, two trials run at a time.
"""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import checkout  # noqa: F401  finds the package
from efficientconv.arguments import file_name, positive
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("overrides", nargs="+", metavar="KEY=RANGE or KEY=VALUE", help="settings and ranges")
    parser.add_argument("--trials", type=positive, required=True, help="number of trials, including those of earlier starts")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="trials at a time, which share the cores")
    parser.add_argument("--study", type=file_name, required=True, help="name of the search and of its folder")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    leave_on_signals(continues=True)
    parse_args()  # a mistake and --help are answered now: the imports take seconds

import optuna

from efficientconv.cli import compose, run_config, warn_of_unused
from efficientconv.config import RunConfig
from efficientconv.engine.epoch_log import read_records
from efficientconv.errors import UserError
from efficientconv.files import write_atomically
from efficientconv.results.figures import FIGURES
from efficientconv.results.table import Column, Table
from efficientconv.sweep.ranges import combinations, short, split_ranges
from efficientconv.sweep.search import OBJECTIVE, TRIAL_STATES, Search


def main() -> None:
    args = parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fixed, ranges = split_ranges(args.overrides)

    def configure(overrides: Sequence[str]) -> RunConfig:
        return run_config(compose("train", [*fixed, *overrides]))

    warn_of_unused(map(configure, combinations(ranges)), args.overrides)
    first = configure(next(combinations(ranges)))  # a mistake ends the command before a study exists that would hold it
    search = Search(Path(first.output_root) / "tune" / args.study, ranges, configure)
    file = search.folder / "trials.csv"

    def keep() -> None:
        write_atomically(file, trial_table(search).csv().encode())

    keep()
    search.run(args.trials, args.jobs, after_each=keep)
    print(f"\n{trial_table(search).text()}\n\ntrials: {file}\n{best(search, fixed)}")


def best(search: Search, fixed: list[str]) -> str:
    """The trial with the highest accuracy, and the command that trains with its settings."""
    counts = Counter(TRIAL_STATES[trial.state] for trial in search.study.trials)
    found = ", ".join(f"{number} {state}" for state, number in counts.items())
    trial = search.best()
    if trial is None:
        raise UserError(f"no trial ended well ({found}); each says why in log.txt of its folder in {search.folder}")
    settings = [f"{key}={value}" for key, value in trial.params.items()]
    return (
        f"best of {len(search.study.trials)} trials ({found}): trial {trial.number}, "
        f"held-out top-1 {FIGURES[OBJECTIVE].show(trial.value)} %\n"
        f"{shlex.join(['python', 'train.py', *fixed, *settings])}"
    )


def trial_table(search: Search) -> Table:
    """The trials, the best first; pruned and failed ones come after finished ones. Only the csv file has the run folder."""
    trials = sorted(search.study.trials, key=lambda trial: (list(TRIAL_STATES).index(trial.state), -(trial.value or 0)))
    claimed = [trial for trial in trials if "run" in trial.user_attrs]
    records = {trial.number: read_records(search.run_of(trial).metrics_file) for trial in claimed}
    return Table(trials, [
        Column("trial", "number", name="trial"),
        Column("state", lambda trial: TRIAL_STATES[trial.state], name="state"),
        FIGURES[OBJECTIVE].column("value"),
        Column("epochs", lambda trial: len(records.get(trial.number, ())), name="epochs"),
        FIGURES["train_seconds"].column(
            lambda trial: sum(record["train_seconds"] for record in records.get(trial.number, ())), "seconds"
        ),
        *(Column(key, lambda trial, key=key: trial.params.get(key), short, key) for key in search.ranges),
        Column(None, lambda trial: trial.user_attrs.get("run"), name="run"),
    ])  # fmt: skip


if __name__ == "__main__":
    guarded(main)
