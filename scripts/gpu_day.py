"""Measures layers, models and training on a GPU, in stages. Each stage has a time limit.

    python scripts/gpu_day.py --plan                   lists the stages, their states and their time limits
    python scripts/gpu_day.py                          measures the stages that are not done
    python scripts/gpu_day.py --only models,compiled   measures only these stages
    python scripts/gpu_day.py --only models --again    measures the stage again, although it is done
    python scripts/gpu_day.py --tiny                   tries the stages with tiny networks; a CPU is enough
    python scripts/gpu_day.py --pages                  writes the pages again from the results; needs no GPU

The results of a stage lie in results/gpu/<device>/<stage>.json. At the end README.md in this folder shows all results, with
tables and pictures. If a stage fails or is cut off, its finished measurements stay, and its output is in <stage>.log. The
same command measures the stage again.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from checkout import ROOT
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals


def parse_args() -> argparse.Namespace:
    parser = parser_for(__doc__)
    parser.add_argument("--plan", action="store_true", help="print the stages that would run; measure nothing")
    parser.add_argument("--only", metavar="STAGE,STAGE", help="only these stages")
    parser.add_argument("--again", action="store_true", help="also measure the stages that are done")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to test the stages; the times mean nothing")
    parser.add_argument("--pages", action="store_true", help="write the pages of all devices again; measure nothing")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "results" / "gpu", help="default: results/gpu")
    return parser.parse_args()


if __name__ == "__main__":
    leave_on_signals(continues=True)
    parse_args()  # a mistake and --help are answered now: the imports take seconds

import torch

from efficientconv.arguments import require_writable
from efficientconv.engine.device import choose_device
from efficientconv.errors import UserError, did_you_mean
from efficientconv.gpu_day.day import TINY, Day, Outcome
from efficientconv.gpu_day.report.page import write_page
from efficientconv.gpu_day.stages import BY_NAME, STAGES, Stage
from efficientconv.info import cpu_name
from efficientconv.results.table import Table


class StagesMissing(UserError):
    """Some stages are not done."""

    exit_code = 1


def main() -> None:
    args = parse_args()
    if args.pages:
        return write_pages(args.output_dir)
    stages = chosen(args.only)
    device = choose_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    day = Day(args.output_dir / folder_name(name, args.tiny), device.type, args.tiny, stages, args.again)
    print(f"{name}: {day.folder}\n{plan(day)}", flush=True)
    if args.plan:
        return
    if device.type == "cpu" and not args.tiny:
        raise UserError("torch finds no GPU here, and a CPU would take days; test the stages with --tiny")
    require_writable(day.folder)
    try:
        outcomes = day.run(tell)
    finally:
        print(f"page: {write_page(day)}", flush=True)
    if failed := [outcome.stage for outcome in outcomes if outcome.state != "done"]:
        raise StagesMissing(f"not done: {', '.join(failed)}; see {day.folder}/<stage>.log, and the same command tries again")


def chosen(names: str | None) -> Sequence[Stage]:
    """The chosen stages, in their order. Raises UserError for an unknown stage."""
    wanted = [stage.name for stage in STAGES] if names is None else names.split(",")
    for name in wanted:
        if name not in BY_NAME:
            raise UserError(f"--only: no stage is called '{name}': {did_you_mean(name, BY_NAME)}")
    return [stage for stage in STAGES if stage.name in wanted]


def folder_name(device: str, tiny: bool) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", device.lower())) + (TINY if tiny else "")


def plan(day: Day) -> str:
    """The table of stages, with the seconds after which each stage has ended at the latest."""
    rows, seconds, left = [], 0, day.left()
    for stage in day.stages:
        outcome, to_do = day.outcome(stage), stage in left
        seconds += stage.seconds if to_do else 0
        state = outcome.state if outcome else "to do"
        rows.append({
            "stage": stage.name, "state": state, "limit_s": stage.seconds, "ended_s": seconds if to_do else None,
            "what it measures": stage.about,
        })  # fmt: skip
    return Table.of(rows).text()


def write_pages(gpus: Path) -> None:
    for folder in sorted(gpus.iterdir()):
        print(write_page(Day(folder, "", folder.name.endswith(TINY))))


def tell(outcome: Outcome) -> None:
    reason = f" ({outcome.reason})" if outcome.reason else ""
    print(f"{outcome.stage}: {outcome.state}{reason}, {len(outcome.rows)} rows in {outcome.seconds:g} s", flush=True)


if __name__ == "__main__":
    guarded(main)
