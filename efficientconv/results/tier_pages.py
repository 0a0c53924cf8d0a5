"""Tables of what a tier has found, over all of the paper's tables: for README.md and results/<tier>/README.md."""

from __future__ import annotations

import statistics
from pathlib import Path

import yaml

from efficientconv.config import CONFIG_DIR
from efficientconv.models import list_models, model_config
from efficientconv.results.markdown import Row, csv_rows, markdown_table
from efficientconv.results.record import read_records_in

VERDICTS = ("supported", "contradicted", "undecided")


def result_table(folder: Path) -> str:
    """A row a trained model, in the paper's order."""
    tables = map(csv_rows, sorted(folder.glob("table*.csv")))
    rows = {row["row"]: row for table in tables for row in table if row.get("n", "0") != "0"}
    macs_of_a = int(rows["a"]["macs"]) if "a" in rows else None
    return markdown_table([_result(rows[name], macs_of_a) for name in list_models() if name in rows])


def claim_table(folder: Path) -> str:
    """Each claim that was tested, and what came out."""
    claims = [row for path in sorted(folder.glob("claims*.csv")) for row in csv_rows(path) if row["difference_points"]]
    counts = ", ".join(f"{sum(row['verdict'] == verdict for row in claims)} {verdict}" for verdict in VERDICTS)
    return f"{markdown_table([_claim(row) for row in claims])}\n\nClaims: {counts}."


def fit_table(folder: Path) -> str:
    """How well each model, at the tier's width, fits what it was trained on, beside what it had not seen: means."""
    width = _width_of_tier(folder.name)
    records = [record for record in read_records_in(folder / "runs") if record.config["model"]["width"] == width]
    by_model = {name: [record for record in records if record.model == name] for name in list_models()}
    rows = [
        {
            "model": name,
            "training top-1 %": _mean([record.metrics[-1]["train_top1_percent"] for record in runs]),
            "held-out top-1 %": _mean([record.metrics[-1]["val_top1_percent"] for record in runs]),
            "test top-1 %": _mean([record.summary["top1_percent"] for record in runs]),
            "seeds": len(runs),
        }
        for name, runs in by_model.items()
        if runs
    ]
    return markdown_table(rows)


def rate_table(folder: Path) -> str:
    """Learning rates beside the tier's own, from records in <folder>/rates: runs that held out more, for this alone."""
    rows = [
        {
            "model": record.model,
            "rate": record.config["optim"]["lr"],
            "training top-1 %": _mean([record.metrics[-1]["train_top1_percent"]]),
            "held-out top-1 %": _mean([record.metrics[-1]["val_top1_percent"]]),
            "held-out images": record.metrics[-1]["val_images"],
        }
        for record in read_records_in(folder / "rates")
    ]
    return markdown_table(sorted(rows, key=lambda row: (row["model"], row["rate"])))


def _result(row: dict[str, str], macs_of_a: int | None) -> Row:
    spread = f" ± {float(row['top1_std']):.2f}" if row["top1_std"] else ""
    macs = int(row["macs"])
    return {
        "model": row["row"],
        "stages": model_config(row["row"]).description,
        "M MACs, ours": f"{macs / 1e6:.2f}",
        "of A's": f"{macs / macs_of_a:.2f}" if macs_of_a else "",
        "ms per image, ours": f"{float(row['ms_per_image']):.3f}" if row["ms_per_image"] else "",
        "top-1 %, ours (seeds)": f"{float(row['top1_mean_percent']):.2f}{spread} ({row['n']})",
        "top-1 % on ImageNet, the paper's (M, unchecked)": row["paper_top1_percent"],
    }


def _claim(row: dict[str, str]) -> Row:
    interval = f" ({float(row['low']):+.2f} to {float(row['high']):+.2f})" if row["low"] else ""
    return {
        "the paper's claim": row["sentence"],
        "mark": row["source"],
        "difference, points": f"{row['row']} - {row['than']}: {float(row['difference_points']):+.2f}{interval}",
        "here": f"**{row['verdict']}**",
    }


def _width_of_tier(tier: str) -> float:
    settings = yaml.safe_load((CONFIG_DIR / "tier" / f"{tier}.yaml").read_text())
    return settings.get("model", {}).get("width", 1.0)


def _mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f}"
