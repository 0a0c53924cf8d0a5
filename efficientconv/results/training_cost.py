"""Estimated costs of the tiers that were not run, with the assumptions."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from efficientconv.files import CONFIG_DIR
from efficientconv.results import data_tables
from efficientconv.results.table import Column, Row, Table
from efficientconv.results.table_config import trained_models

IMAGES = {"cifar": 50_000, "imagenet": data_tables.IMAGES["train"]}  # of training, by tier; each has the layout of its name
MODELS = ("a", "c", "k", "m", "o")
SEEDS = 3
FLOPS_A_MAC = 6  # 2 FLOPs forward, and 4 for the gradients of inputs and weights
GPU_TFLOPS = 10  # assumed: 10^12 FLOPs a second, sustained, of one GPU


def training_cost_table(complexity: Sequence[Row], benchmarks: Sequence[Row]) -> str:
    """The costs of a run of some models, and of three seeds of every model that a table trains."""
    rows = [(tier, *row) for tier in IMAGES for row in _tier_rows(tier, complexity, benchmarks)]
    return Table(rows, [
        Column("tier", lambda row: row[0]),
        Column("what", lambda row: row[1]),
        Column("PFLOP", lambda row: row[2] / 1e15, _short),
        Column(f"GPU hours at {GPU_TFLOPS:g} TFLOP/s", lambda row: row[2] / GPU_TFLOPS / 3.6e15, _short),
        Column("days on two CPU cores", lambda row: row[3], _short),
    ]).markdown()  # fmt: skip


def _tier_rows(tier: str, complexity: Sequence[Row], benchmarks: Sequence[Row]) -> list[tuple[str, float, float | None]]:
    """The name, the FLOPs, and the days on two CPU cores if the model's steps were measured there."""
    images = IMAGES[tier] * _epochs(tier)
    flops = {row["model"]: row["macs"] * FLOPS_A_MAC * images for row in complexity if row["layout"] == tier}
    measured = [row for row in benchmarks if (row["layout"], row["kind"], row["batch"]) == (tier, "training", 16)]
    days = {row["name"]: row["ms"] / row["batch"] * images / 86_400_000 for row in measured}
    trained = flops.keys() & trained_models()
    total = SEEDS * sum(flops[model] for model in sorted(trained))
    runs = [(f"a run of {model}", flops[model], days.get(model)) for model in MODELS]
    return [*runs, (f"all {len(trained)} models of the tables, {SEEDS} seeds", total, None)]


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _epochs(tier: str) -> int:
    paths = CONFIG_DIR / "tier" / f"{tier}.yaml", CONFIG_DIR / "trainer" / "default.yaml"
    of_tier, default = (yaml.safe_load(path.read_text()) for path in paths)
    return of_tier.get("trainer", {}).get("epochs") or default["epochs"]
