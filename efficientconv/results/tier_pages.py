"""Tables of a tier's results, over all tables of the paper: for README.md and results/<tier>/README.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from efficientconv.csv_files import read_rows
from efficientconv.models import list_models, model_config
from efficientconv.results.claims import counts, tested_claims
from efficientconv.results.figures import FIGURES
from efficientconv.results.record import RunRecord, read_records_in
from efficientconv.results.table import Column, Table
from efficientconv.results.table_columns import ACCURACY, accuracy_of
from efficientconv.results.table_config import tier_width


def result_table(folder: Path) -> str:
    """A row for each trained model, in the paper's order."""
    tables = map(read_rows, sorted(folder.glob("table*.csv")))
    at_tiers_width = (table for table in tables if table and "paper_top1_percent" in table[0])
    rows = {row["row"]: row for table in at_tiers_width for row in table if row.get("top1_mean_percent")}
    macs_of_a = rows["a"]["macs"] if "a" in rows else None
    return Table([rows[name] for name in list_models() if name in rows], [
        Column("model", "row"),
        Column("stages", lambda row: model_config(row["row"]).description),
        FIGURES["macs"].column(title="M MACs, ours"),
        Column("of A's", lambda row: row["macs"] / macs_of_a if macs_of_a else None, ".2f"),
        FIGURES["ms_per_image"].column(title="ms per image, ours"),
        Column("time, of limit", "of_limit"),
        Column(f"{ACCURACY.title}, ours (seeds)", accuracy_of, ACCURACY.form),
        Column(f"{ACCURACY.title} on ImageNet, the paper's (M, unchecked)", "paper_top1_percent", ACCURACY.form),
    ]).markdown()  # fmt: skip


def claim_table(folder: Path) -> str:
    """Each claim that was tested, with its verdict."""
    claims = tested_claims(folder)
    table = Table(claims, [
        Column("the paper's claim", "sentence"),
        Column("mark", "source"),
        Column("difference, points", lambda claim: f"{claim.row} - {claim.than}: {claim.shown}"),
        Column("here", lambda claim: f"**{claim.verdict}**"),
    ])  # fmt: skip
    return f"{table.markdown()}\n\nClaims: {', '.join(f'{count} {verdict}' for verdict, count in counts(claims).items())}."


def fit_table(folder: Path) -> str:
    """Mean accuracies of each model at the tier's width on training, held-out and test images."""
    width = tier_width(folder.name)
    records = [record for record in read_records_in(folder / "runs") if record.config["model"]["width"] == width]
    by_model = {name: [record for record in records if record.model == name] for name in list_models()}
    return Table([(name, runs) for name, runs in by_model.items() if runs], [
        Column("model", lambda row: row[0]),
        *(_mean_of_last_epochs(name, lambda row: row[1]) for name in ("train_top1_percent", "val_top1_percent")),
        ACCURACY.column(lambda row: statistics.mean(run.summary[ACCURACY.name] for run in row[1]), f"test {ACCURACY.title}"),
        Column("seeds", lambda row: len(row[1])),
    ]).markdown()  # fmt: skip


def rate_table(folder: Path) -> str:
    """Other learning rates than the tier's, from the records in <folder>/rates, whose runs held out more images."""
    records = sorted(read_records_in(folder / "rates"), key=lambda record: (record.model, record.config["optim"]["lr"]))
    return Table(records, [
        Column("model"),
        Column("rate", lambda record: record.config["optim"]["lr"]),
        *(_mean_of_last_epochs(name, lambda record: [record]) for name in ("train_top1_percent", "val_top1_percent")),
        Column("held-out images", lambda record: record.metrics[-1]["val_images"]),
    ]).markdown()  # fmt: skip


def _mean_of_last_epochs(name: str, runs: Callable[[Any], Sequence[RunRecord]]) -> Column:
    return FIGURES[name].column(lambda row: statistics.mean(run.metrics[-1][name] for run in runs(row)))
