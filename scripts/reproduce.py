"""Reproduces tables of the paper: trains the missing runs, and writes the results beside the paper's figures.

    python scripts/reproduce.py table=2 tier=smoke seeds=0,1,2 --dry-run     prints the plan
    python scripts/reproduce.py table=2 tier=smoke seeds=0,1,2               trains; writes results/smoke/table2.md and .csv
    python scripts/reproduce.py table=2,4,5 tier=cifar_small seeds=0 data.root=<folder> --only c,j --jobs 2

table: 1 to 6, residual, order, start, equal_cost, or several of them. tier: the scale, a file in configs/tier/. If the
command is killed, the same command continues: it skips finished runs and continues cut-off runs, so that the tables are the
same. Other key=value arguments go to every run. Arguments that would change the results are refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from checkout import ROOT
from efficientconv.arguments import positive
from efficientconv.help import parser_for
from efficientconv.signals import Preempted, guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("settings", nargs="+", metavar="KEY=VALUE", help="table=, tier=, seeds=, and settings for all runs")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="runs at a time, which share the cores")
    parser.add_argument("--only", metavar="ROW,...", help="train only these rows; the table shows all finished runs")
    parser.add_argument(
        "--measure", choices=("missing", "again", "never"), default="missing",
        help="which ms per image to measure: the missing ones (default), all again, or none",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=ROOT / "results", metavar="FOLDER", help="default: results")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    leave_on_signals(continues=True)
    parse_args()  # a mistake and --help are answered now: the imports take seconds

from efficientconv.arguments import require_writable, seeds, settings
from efficientconv.cli import compose_run
from efficientconv.engine.device import choose_device, keep_freed_memory
from efficientconv.errors import UserError, did_you_mean
from efficientconv.reproduce.estimate import estimate
from efficientconv.reproduce.measure import tier_times
from efficientconv.reproduce.plan import plan_runs, train
from efficientconv.reproduce.report import plan_text
from efficientconv.reproduce.tier import load_tier
from efficientconv.reproduce.write import write_plots, write_table
from efficientconv.results.table_config import needed_rows, table_config
from efficientconv.results.times import read_times


@dataclass(frozen=True)
class Order:
    """The settings on the command line."""

    tables: list[str]
    tier: str
    seeds: list[int]
    overrides: list[str] = field(default_factory=list)


def main() -> None:
    args = parse_args()
    order = parse_order(args.settings)
    rows = rows_to_train(order.tables, args.only)
    tier = load_tier(order.tier, order.overrides, args.results, compose_run)
    runs = plan_runs(tier.models(rows), order.seeds, tier.base, tier.folder)
    facts, device = tier.data_facts, choose_device("auto")
    keep_freed_memory(device)  # the times here are those of a run, whose process does this too
    if not args.dry_run:
        require_writable(args.results)
        earlier = {} if args.measure == "again" else read_times(tier.folder)  # raises for a damaged file, before any run
    for run in runs:
        run.keep_record()
    pending = [run for run in runs if run.state != "done"]
    print(plan_text(runs, estimate(pending, runs, facts), tier, args.jobs), flush=True)
    if args.dry_run:
        return
    code = train(pending, args.jobs)
    if code == Preempted.exit_code:
        sys.exit(code)  # after a signal nobody wants to wait for tables
    times, others = tier_times(tier, device, args.measure), set(tier.folder.glob("table*.md"))
    for name in order.tables:
        paths = write_table(name, tier, order.seeds, command_of(order, args.only), times)
        others -= set(paths)
        print(f"{paths[0].read_text()}\n{', '.join(map(str, paths))}\n")
    print(", ".join(map(str, write_plots(tier, times))))
    if others and not times.items() <= earlier.items():
        names = ", ".join(sorted(path.name for path in others))
        print(f"all times were measured anew; {names} still have earlier ones: make each again by the command at its end")
    if code:
        sys.exit(code)


def rows_to_train(tables: Sequence[str], only: str | None) -> list[str]:
    """The rows to train. Raises UserError for a row that is in none of the tables."""
    configs = [table for table in map(table_config, tables) if table.trained]
    needed = list(dict.fromkeys(name for table in configs for name in needed_rows(table)))
    if only is None:
        return needed
    allowed = [*needed, *(name for table in configs for name in table.quoted)]
    for name in only.split(","):
        if name not in allowed:
            raise UserError(f"--only {name}: not a row of table {', '.join(tables)}; {did_you_mean(name, allowed)}")
    return only.split(",")


def parse_order(given: Sequence[str]) -> Order:
    """The settings from key=value arguments. Raises UserError if a setting is missing or unreadable."""
    values = settings(given, "table=2 tier=smoke seeds=0,1,2")
    for key, example in (("table", "2"), ("tier", "smoke")):
        if not values.get(key):
            raise UserError(f"{key} is missing: give {key}=<value>, for example {key}={example}")
    tables, tier, chosen = values.pop("table").split(","), values.pop("tier"), seeds(values.pop("seeds", "0"))
    return Order(tables, tier, chosen, [f"{key}={value}" for key, value in values.items()])


def command_of(order: Order, only: str | None) -> str:
    """The command without overrides: numbers do not depend on them, and they may name folders of this machine."""
    seeds = ",".join(map(str, order.seeds))
    command = f"python scripts/reproduce.py table={','.join(order.tables)} tier={order.tier} seeds={seeds}"
    return command if only is None else f"{command} --only {only}"


if __name__ == "__main__":
    guarded(main)
