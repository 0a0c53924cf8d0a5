"""Measured times of runs: a tier's measurement of all its networks together if there is one, else the run's own."""

from __future__ import annotations

from pathlib import Path

from efficientconv.config import FARTHEST
from efficientconv.results.csv_files import csv_rows
from efficientconv.results.record import RunRecord
from efficientconv.results.report.sources import Sources
from efficientconv.results.tables import budget_of, model_of, tier_width

TOGETHER, ALONE = "all networks together, interleaved", "by each run at its end"


class Times:
    """The times by tier and row, from <tier folder>/latency.csv, and latency_<table>.csv for rows at a budget."""

    def __init__(self, sources: Sources):
        self.together = {folder.name: sources.attempt(_read, folder) or {} for folder in sources.tier_folders}

    def of(self, record: RunRecord) -> dict | None:
        """`ms` per image, in batches of `batch`, and `how` and at which `place` it was measured; None if not measured."""
        times, summary = self.together.get(record.tier, {}), record.summary
        row = next((row for row in times if _is_of(row, record)), None)
        if row is not None:
            return times[row]
        if "ms_per_image" not in summary:
            return None
        return {"ms": summary["ms_per_image"], "batch": summary["ms_per_image_batch"], "how": ALONE, "place": None}


def _is_of(row: str, record: RunRecord) -> bool:
    """Whether the record is of the row: its model at the tier's width, or at the width that meets the row's budget."""
    budget = budget_of(row)
    if model_of(row) != record.model:
        return False
    if budget is None:
        return record.config["model"]["width"] == tier_width(record.tier)
    return abs(record.summary.get("macs", 0) / budget - 1) <= FARTHEST


def _read(folder: Path) -> dict[str, dict]:
    """The times in a tier's folder. If two files have a row, latency.csv counts."""
    times: dict[str, dict] = {}
    for path in sorted(folder.glob("latency*.csv")):
        for row in csv_rows(path):
            times.setdefault(row["model"], _time(row, f"{folder.name}/{path.name}"))
    return times


def _time(row: dict[str, str], file: str) -> dict:
    place = f"{file}: {row['measured_on']}"
    return {"ms": float(row["ms_per_image"]), "batch": int(row["batch_size"]), "how": TOGETHER, "place": place}
