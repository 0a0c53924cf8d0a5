"""Compares the decisions that this project took where the paper is silent with their alternatives.

    python scripts/decisions.py tier=cifar_small seeds=0,1 data.root=<folder>              trains the missing runs
    python scripts/decisions.py tier=cifar_small seeds=0,1 data.root=<folder> --dry-run    trains nothing

Both commands write results/decisions.md from the finished runs. The accuracies are of held-out training images. The records
of the runs lie in results/<tier>/decisions/. The decisions are listed in configs/decisions.yaml.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from checkout import ROOT
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("settings", nargs="+", metavar="KEY=VALUE", help="tier=, seeds=, and settings for all runs")
    parser.add_argument("--dry-run", action="store_true", help="train nothing")
    parser.add_argument("--results", type=Path, default=ROOT / "results", metavar="FOLDER", help="default: results")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    leave_on_signals(continues=True)
    parse_args()  # a mistake and --help are answered now: the imports take seconds

from efficientconv.arguments import require_writable, seeds, settings
from efficientconv.cli import compose_run
from efficientconv.errors import UserError
from efficientconv.reproduce.plan import PlannedRun, tier_config, train
from efficientconv.results.decisions import HELD_OUT, decisions, ledger
from efficientconv.results.pages import page, write_files
from efficientconv.results.record import read_record
from efficientconv.results.table import grouped


def main() -> None:
    args = parse_args()
    values = settings(args.settings, "tier=cifar_small seeds=0,1")
    tier, chosen = values.pop("tier", None), seeds(values.pop("seeds", "0,1"))
    if tier is None:
        raise UserError("tier is missing: give tier=<name>, for example tier=cifar_small")
    runs = planned(tier, chosen, [f"{key}={value}" for key, value in values.items()], args.results)
    require_writable(args.results)
    for run in runs:
        run.keep_record()
    missing = [run for run in runs if run.state != "done"]
    print(f"{len(runs)} runs: {len(runs) - len(missing)} done, {len(missing)} to do", flush=True)
    code = 0
    if missing and not args.dry_run:
        code = train(missing)
    write(runs, tier, args.results)
    sys.exit(code)


def planned(tier: str, seeds: list[int], overrides: list[str], results: Path) -> list[PlannedRun]:
    """Seed by seed, each variant of each decision once. Raises UserError for overrides that change the tier's numbers."""
    tier_config(tier, overrides, compose_run)
    variants = {name: settings for decision in decisions() for name, settings in decision.variants.items()}
    runs = []
    for seed in seeds:
        for name, changes in variants.items():
            config = compose_run([f"tier={tier}", *overrides, f"data.val_fraction={HELD_OUT}", f"seed={seed}", *changes])
            runs.append(PlannedRun(name, config, results / tier / "decisions"))
    return runs


def write(runs: list[PlannedRun], tier: str, results: Path) -> None:
    finished = grouped((run for run in runs if run.record.exists()), lambda run: run.row)
    found = {row: [read_record(run.record) for run in of_row] for row, of_row in finished.items()}
    seeds = ",".join(map(str, dict.fromkeys(run.config.seed for run in runs)))
    text = page(
        f"# Decisions, and what they move (tier {tier})",
        "Where the paper is silent or not at hand, this project decided (mark D).",
        ledger(found, tier, seeds),
        f"Made by `python scripts/decisions.py tier={tier} seeds={seeds}` from the records in {tier}/decisions/.",
    )
    write_files(results, {"decisions.md": text})
    print(f"{text}\n{results / 'decisions.md'}")


if __name__ == "__main__":
    guarded(main)
