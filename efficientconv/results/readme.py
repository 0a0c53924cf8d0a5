"""The tables of README.md, made from the csv files of results/: nobody types a figure twice."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from efficientconv.models import model_config, model_names
from efficientconv.results import data_tables, paper

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"


def updated(text: str) -> str:
    """README.md with what stands between `<!-- name -->` and `<!-- end -->` made anew."""
    throughput = _rows("data_throughput.csv")
    tables = {
        "costs": cost_table(),
        "cifar10_jpeg": run_table(),
        "data_speed": data_tables.speed_table(throughput),
        "data_estimates": data_tables.estimate_table(throughput),
    }
    for name, table in tables.items():
        block = f"<!-- {name} -->\n{table}\n<!-- end -->"
        text, found = re.subn(rf"<!-- {name} -->\n.*?<!-- end -->", block.replace("\\", r"\\"), text, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"README.md has {found} places for the table '{name}', not one")
    return text


def cost_table() -> str:
    """Counted costs beside what the paper reports, model by model."""
    costs = {row["model"]: row for row in _rows("complexity.csv") if row["layout"] == "imagenet"}
    lines = [
        "| model | stages | M MACs, ours | M parameters, ours | stages' MACs over A's, ours | paper: ideal (M) "
        "| paper: top-1 error % (M, unchecked) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in model_names():
        cost = costs[name]
        ratio = f"{float(cost['stage_macs_vs_a']):.3f}" if cost["stage_macs_vs_a"] else ""
        lines.append(
            f"| {name} | {model_config(name).description} | {int(cost['macs']) / 1e6:.2f} | {int(cost['params']) / 1e6:.2f} "
            f"| {ratio} | {cost['ideal_fraction']} | {paper.value(name, 'top1_error_percent')} |"
        )
    return "\n".join(lines)


def run_table() -> str:
    """Our short runs."""
    lines = [
        "| model | M MACs | M parameters | top-1 % | ms per image | training images/s |",
        "|---|---|---|---|---|---|",
    ]
    for row in _rows("cifar10_jpeg.csv"):
        lines.append(
            f"| {row['model']} | {int(row['macs']) / 1e6:.2f} | {int(row['params']) / 1e6:.3f} "
            f"| {float(row['top1_percent']):.2f} | {float(row['ms_per_image']):.3f} "
            f"| {float(row['train_images_per_s']):.0f} |"
        )
    return "\n".join(lines)


def _rows(name: str) -> list[dict[str, str]]:
    with open(RESULTS / name, newline="") as file:
        return list(csv.DictReader(file))
