"""What the tiers that nobody here could run would cost: multiplied out, with the assumption beside it."""

from __future__ import annotations

import yaml

from efficientconv.files import CONFIG_DIR
from efficientconv.results import data_tables
from efficientconv.results.table import Table
from efficientconv.results.tables import needed_rows, table_config, table_names

Rows = list[dict[str, str]]

IMAGES = {"cifar": 50_000, "imagenet": data_tables.IMAGES["train"]}  # of training, by tier; each has the layout of its name
MODELS = ("a", "c", "k", "m", "o")
SEEDS = 3
FLOPS_A_MAC = 6  # 2 FLOPs; once forward, and twice as much for the gradients of inputs and weights
ASSUMED_FLOPS = 10e12  # a second, sustained, of one GPU


def training_cost_table(complexity: Rows, benchmarks: Rows) -> str:
    """Runs of some models, and three seeds of every model that a table trains."""
    return Table.of([row for tier in IMAGES for row in _tier_rows(tier, complexity, benchmarks)]).markdown()


def _tier_rows(tier: str, complexity: Rows, benchmarks: Rows) -> list[dict[str, str]]:
    images = IMAGES[tier] * _epochs(tier)
    flops = {row["model"]: int(row["macs"]) * FLOPS_A_MAC * images for row in complexity if row["layout"] == tier}
    ms = {
        row["name"]: float(row["ms"]) / int(row["batch"])
        for row in benchmarks
        if row["layout"] == tier and row["kind"] == "training" and row["batch"] == "16"
    }
    days = {model: value * images / 86_400_000 for model, value in ms.items()}
    everything = {name for table in map(table_config, table_names()) if table.trained for name in needed_rows(table)}
    trained = sorted(everything & flops.keys())
    rows = [_row(tier, f"a run of {model}", flops[model], days.get(model)) for model in MODELS]
    total = SEEDS * sum(flops[model] for model in trained)
    return [*rows, _row(tier, f"all {len(trained)} models of the tables, {SEEDS} seeds", total, None)]


def _row(tier: str, what: str, flops: float, days: float | None) -> dict[str, str]:
    hours = flops / ASSUMED_FLOPS / 3600
    return {
        "tier": tier,
        "what": what,
        "PFLOP": _short(flops / 1e15),
        f"GPU hours, if it sustains {ASSUMED_FLOPS / 1e12:g} TFLOP/s": _short(hours),
        "days on two CPU cores": "" if days is None else _short(days),
    }


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _epochs(tier: str) -> int:
    for path in (CONFIG_DIR / "tier" / f"{tier}.yaml", CONFIG_DIR / "trainer" / "default.yaml"):
        values = yaml.safe_load(path.read_text())
        epochs = values.get("trainer", values).get("epochs")
        if epochs:
            return epochs
    raise ValueError(f"no epochs in configs/tier/{tier}.yaml")
